"""The incremental detokenizer: any cut of the ids gives the text that all of them give."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vocabulary_files import (
    BYTE,
    BYTE_CHARACTERS,
    BYTE_TOKENS,
    CONTROL,
    NORMAL,
    SPACE,
    write_vocabulary,
)

from rocmforge.errors import InvalidArgumentError
from rocmforge.tokenizer import IncrementalDetokenizer, Tokenizer

WORDS = ["ab", "abc", "stop", "st", "op!", "\u0120the", "a\u0120a"]
EOS = 256 + len(WORDS)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("detokenizer") / "vocabulary.gguf"
    tokens = [*BYTE_CHARACTERS, *WORDS, "<eos>"]
    types = [NORMAL] * (len(tokens) - 1) + [CONTROL]
    write_vocabulary(path, "gpt2", tokens, pre="gpt-2", merges=[], token_type=types)
    return Tokenizer.from_gguf(path)


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Puts a space in front of every text: 0 "<s>", 1 " the", 2 " ", 3 "x", then the bytes."""
    path = tmp_path_factory.mktemp("detokenizer") / "spaced.gguf"
    tokens = ["<s>", f"{SPACE}the", SPACE, "x", *BYTE_TOKENS]
    types = [CONTROL, NORMAL, NORMAL, NORMAL, *[BYTE] * 256]
    scores = [0.0] * len(tokens)
    write_vocabulary(path, "llama", tokens, token_type=types, scores=scores)
    return Tokenizer.from_gguf(path)


def cut_at_first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The stop that ends first, of those the longest, looked for at every place."""
    for end in range(1, len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            stop = max(met, key=len)
            return text[: end - len(stop)], stop
    return text, None


letters = st.sampled_from([*b"abst o!", *"\u65e5\U0001f600".encode(), 0xFF, 0xC3, 0xE2])
ids = st.lists(st.one_of(letters, st.integers(256, EOS)), max_size=30)
stop_lists = st.lists(
    st.one_of(
        st.sampled_from(["ab", "abc", "b", "stop!", "the", " ", "\u65e5", "\ufffd", "aba"]),
        st.text("abst \u65e5", min_size=1, max_size=5),
    ),
    max_size=4,
)


@settings(max_examples=500)
@given(ids=ids, stops=stop_lists, cuts=st.lists(st.integers(0, 30)), skip=st.booleans())
@example(ids=[*b"abab", 257], stops=["ababc", "b c"], cuts=[], skip=True)
@example(ids=[*b"xabc"], stops=["abc", "b"], cuts=[1, 2, 3], skip=True)
@example(ids=[*b"xabc"], stops=["bc", "abc", "c"], cuts=[1, 2, 3], skip=True)
def test_deltas_make_the_text_up_to_the_first_stop(
    byte_level: Tokenizer, ids: list[int], stops: list[str], cuts: list[int], skip: bool
) -> None:
    detokenizer = IncrementalDetokenizer(byte_level, stops, skip)
    bounds = sorted({0, len(ids), *(cut for cut in cuts if cut < len(ids))})
    deltas = [detokenizer.push(ids[start:end]) for start, end in itertools.pairwise(bounds)]
    deltas.append(detokenizer.finish())
    wanted = cut_at_first_stop(byte_level.decode(ids, skip), stops)
    assert ("".join(deltas), detokenizer.stopped) == wanted


# Whatever comes, it goes on like one of these as far as the character at hand is concerned.
MORE = [
    b"a",
    b"b",
    b"\xff",
    *(first + b"\x80" * n for first in (b"\x80", b"\xbf") for n in range(3)),
]


@settings(max_examples=300)
@given(ids=ids, stops=stop_lists)
def test_delta_holds_all_that_is_certain_and_nothing_else(
    byte_level: Tokenizer, ids: list[int], stops: list[str]
) -> None:
    """Held back are the start of a stop and the bytes of a character that may still come."""
    detokenizer = IncrementalDetokenizer(byte_level, stops)
    given = ""
    for place, id in enumerate(ids):
        given += detokenizer.push([id])
        if detokenizer.stopped is not None:
            break
        data = b"".join(byte_level.output_bytes(id) for id in ids[: place + 1])
        text = common_prefix([(data + more).decode(errors="replace") for more in MORE])
        starts = {stop[:count] for stop in stops for count in range(1, len(stop))}
        held = max((len(start) for start in starts if text.endswith(start)), default=0)
        assert given == text[: len(text) - held]


def common_prefix(texts: list[str]) -> str:
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False))
    return "".join(column[0] for column in columns)


def test_after_a_stop_nothing_more_is_given(byte_level: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(byte_level, ["stop"])
    assert detokenizer.push([*b"a st"]) == "a "
    assert detokenizer.push([*b"op and more"]) == ""
    assert detokenizer.stopped == "stop"
    assert detokenizer.push([*b"more"]) == ""
    assert detokenizer.finish() == ""


def test_character_is_given_when_its_last_byte_is_there(byte_level: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(byte_level)
    deltas = [detokenizer.push([byte]) for byte in "\U0001f600x".encode()]
    assert deltas == ["", "", "", "\U0001f600", "x"]
    assert detokenizer.push([0xF0, 0x9F]) == ""
    assert detokenizer.finish() == "\ufffd"


def test_space_in_front_is_dropped_once_at_the_start(spaced: Tokenizer) -> None:
    for ids in ([0, 1, 1, 3], [1, 1], [2, 1], [2, 2, 3], [0, 3, 1], [4 + 0x20, 3], [0], []):
        detokenizer = IncrementalDetokenizer(spaced)
        deltas = [detokenizer.push([id]) for id in ids]
        assert "".join([*deltas, detokenizer.finish()]) == spaced.decode(ids)
    assert spaced.decode([0, 1, 1, 3]) == "the thex"


def test_space_in_front_stays_behind_a_prompt_with_text(spaced: Tokenizer) -> None:
    assert IncrementalDetokenizer(spaced, prompt_ids=[0, 1]).push([1]) == " the"
    assert IncrementalDetokenizer(spaced, prompt_ids=[0]).push([1]) == "the"
    assert IncrementalDetokenizer(spaced, skip_special=False, prompt_ids=[0]).push([1]) == " the"


@pytest.mark.parametrize("stop", [[""], ["a", ""], "abc"])
def test_stop_that_is_no_list_of_texts_is_refused(byte_level: Tokenizer, stop: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="not a sequence of strings"):
        IncrementalDetokenizer(byte_level, stop)


def test_cost_of_a_token_does_not_grow_with_the_text(byte_level: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(byte_level, ["a" * 500 + "b", "never"])
    started = time.process_time()
    for _ in range(50_000):
        detokenizer.push([ord("a")])
    # 50,000 x 10 us; decoding all ids again each time would take an hour.
    assert time.process_time() - started < 5
