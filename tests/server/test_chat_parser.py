"""Answers taken apart: the same in one piece and in any number of pieces."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocmforge.server.chat_parser import ChatParser, ContentParser, PlainContent, ToolContent
from rocmforge.server.tool_calls import MAX_CALL_CHARACTERS, MAX_SPACE

NAMES = frozenset({"weather", "time"})


@dataclass
class Read:
    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, object]] = field(default_factory=list)


def read(
    pieces: list[str],
    content: ContentParser | None = None,
    *,
    may_think: bool = True,
    is_thinking: bool = False,
) -> Read:
    parser = ChatParser(content or ToolContent(NAMES), may_think=may_think, is_thinking=is_thinking)
    whole = Read()
    for piece in [*map(parser.push, pieces), parser.finish()]:
        whole.content += piece.content
        whole.reasoning += piece.reasoning
        whole.calls += [(call.name, json.loads(call.arguments)) for call in piece.calls]
    return whole


PARIS = ("weather", {"city": "Paris"})
NOON = ("time", {})
# text, content, reasoning, calls
CASES = {
    "text": ("Hello, you.", "Hello, you.", "", []),
    "nothing": ("", "", "", []),
    "space": ("  \n", "  \n", "", []),
    "hermes": (
        'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>',
        "I look.\n",
        "",
        [PARIS],
    ),
    "hermes, two": (
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>\n'
            '<tool_call>{"name": "time", "arguments": {}}</tool_call>\n'
        ),
        "",
        "",
        [PARIS, NOON],
    ),
    "hermes with text behind": (
        '<tool_call>{"name": "time"}</tool_call>\nThere.',
        "\nThere.",
        "",
        [NOON],
    ),
    "hermes, an unknown tool": (
        '<tool_call>{"name": "launch", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "launch", "arguments": {}}</tool_call>',
        "",
        [],
    ),
    "hermes, not JSON": (
        "<tool_call>weather(Paris)</tool_call> x",
        "<tool_call>weather(Paris)</tool_call> x",
        "",
        [],
    ),
    "hermes, cut off": (
        '<tool_call>{"name": "weather", "argu',
        '<tool_call>{"name": "weather", "argu',
        "",
        [],
    ),
    "mistral": (
        (
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}, '
            '{"name": "time", "arguments": {}}]'
        ),
        "",
        "",
        [PARIS, NOON],
    ),
    "mistral, newer": (
        '[TOOL_CALLS]weather[ARGS]{"city": "Paris"}[TOOL_CALLS]time[ARGS]{}',
        "",
        "",
        [PARIS, NOON],
    ),
    "llama": ('{"name": "weather", "parameters": {"city": "Paris"}}', "", "", [PARIS]),
    "llama, tagged": (
        (
            '<|python_tag|>{"name": "weather", "parameters": {"city": "Paris"}}; '
            '{"name": "time", "parameters": {}}'
        ),
        "",
        "",
        [PARIS, NOON],
    ),
    "a list": ('\n[{"name": "time", "arguments": "{}"}]', "", "", [NOON]),
    "JSON that is no call": ('{"a": "}{\\""} and', '{"a": "}{\\""} and', "", []),
    "JSON in the middle": ('See {"name": "time"}', 'See {"name": "time"}', "", []),
    "a half of a mark": ("a <tool_ca", "a <tool_ca", "", []),
    "a list of words": ("[TOOLS] are [good]", "[TOOLS] are [good]", "", []),
    "arguments of the wrong type": (
        '{"name": "time", "arguments": [1]}',
        '{"name": "time", "arguments": [1]}',
        "",
        [],
    ),
    "a name of the wrong type": ('{"name": ["time"]}', '{"name": ["time"]}', "", []),
    "thought": (
        "<think>\nParis is\nfar. </think>\n\nIt is far.",
        "It is far.",
        "Paris is\nfar.",
        [],
    ),
    "thought, then a call": (
        '<think>hm</think>\n<tool_call>{"name": "time", "arguments": {}}</tool_call>',
        "",
        "hm",
        [NOON],
    ),
    "a call inside of a thought": (
        '<think>{"name": "time"} <tool_call></think>yes',
        "yes",
        '{"name": "time"} <tool_call>',
        [],
    ),
    "a thought cut off": ("<think>Paris is </thin", "", "Paris is </thin", []),
    "a mark that is no thought": ("<thin ice", "<thin ice", "", []),
    "a thought too late": ("No <think>x</think>", "No <think>x</think>", "", []),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_read_the_same_however_it_is_cut(name: str) -> None:
    text, *expected = CASES[name]
    assert read([text]) == Read(*expected)  # type: ignore[arg-type]
    assert read(list(text)) == Read(*expected)  # type: ignore[arg-type]

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    def cut_anywhere(cuts: list[int]) -> None:
        ends = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
        assert read(pieces) == Read(*expected)  # type: ignore[arg-type]

    cut_anywhere()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "[TOOL_CALLS]",
                "[ARGS]",
                "<|python_tag|>",
                "<think>",
                "</think>",
                '{"name": "time"}',
                "{",
                "}",
                "[",
                "]",
                '"',
                "\\",
                ";",
                " ",
                "x",
                "time",
            ]
        ),
        max_size=12,
    )
)
def test_marks_in_any_order_are_read_the_same_in_pieces(parts: list[str]) -> None:
    text = "".join(parts)
    whole = read([text])
    assert read(parts) == read(list(text)) == whole
    if not whole.calls and not whole.reasoning and "<think>" not in text:
        assert whole.content == text


def test_a_prompt_that_opens_the_thought_leaves_only_its_end_to_find() -> None:
    assert read(["Well", ".</th", "ink>\n\nYes"], is_thinking=True) == Read("Yes", "Well.")
    assert read(["Well"], is_thinking=True) == Read("", "Well")


def test_without_tools_a_call_is_text() -> None:
    text = '<tool_call>{"name": "time"}</tool_call>'
    assert read([text], PlainContent()) == Read(text)


def test_text_that_cannot_become_a_call_is_given_out_at_once() -> None:
    parser = ChatParser(ToolContent(NAMES), may_think=True, is_thinking=False)
    given = [parser.push(piece).content for piece in ("Hi", " there", " <", "b> ", "<tool_")]
    assert given == ["Hi", " there", " ", "<b> ", ""]


@pytest.mark.parametrize("excess", [-1, 0, 1, 5])
@pytest.mark.parametrize(
    "text",
    [
        "{}<think>a</think>b",
        "<think>a{}</think>b",
        "<think>a</think>{}b",
        "<think>a{}",
        '{}{{"name": "time"}}',
        '{}<tool_call>{{"name": "time"}}</tool_call>',
        '{{"name": "time"}}{}{{"name": "time"}}',
    ],
)
def test_space_is_held_back_up_to_a_bound_and_read_the_same_in_pieces(
    text: str, excess: int
) -> None:
    text = text.format(" " * (MAX_SPACE + excess))
    whole = read([text])
    assert read(list(text)) == whole
    assert read([text[:500], text[500:1020], text[1020:]]) == whole
    parser = ChatParser(ToolContent(NAMES), may_think=True, is_thinking=False)
    given = sum(len(parser.push(" ").content) for _ in range(2 * MAX_SPACE))
    assert given >= MAX_SPACE


def test_a_call_that_never_ends_is_given_out_as_text_and_held_no_longer() -> None:
    parser = ToolContent(NAMES)
    held = "<tool_call>" + "x" * MAX_CALL_CHARACTERS
    assert parser.push(held).content == ""
    assert parser.push("y").content == held + "y"
