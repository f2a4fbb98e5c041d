"""Grammars: what they let through, what is refused, and that nothing a client sends is fatal."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex

from rocmforge import _native
from rocmforge.engine import grammar as grammar_module
from rocmforge.engine.grammar import GrammarCompiler, GrammarState
from rocmforge.engine.sampling import SamplerState, SamplingBatchBuilder, SamplingParams
from rocmforge.errors import CapacityError, InvalidArgumentError, UnsupportedError
from rocmforge.tokenizer import Tokenizer

WIDTH = 310  # of the logits: some more than the vocabulary has tokens


class SmallVocabulary:
    """All bytes, some words, and three control tokens the last of which ends the output."""

    words = (
        *(b"true", b"null", b"name", b'"name"', b'":', b"  ", b"11"),
        *(b" hel", b"hel", b"lo", b"hello", b" world", b""),
    )
    bos_id = None

    def __init__(self, *, leading_space: bool = False) -> None:
        self._tokens = [bytes([i]) for i in range(256)]
        self._tokens += [*self.words, b"<s>", b"<tool>", b"</s>"]
        self.vocab_size = len(self._tokens)
        self.special_ids = frozenset(range(self.vocab_size - 3, self.vocab_size))
        self.eog_ids = frozenset({self.vocab_size - 1})
        self.eos = self.vocab_size - 1
        self._leading_space = leading_space

    def token_bytes(self, id: int, /) -> bytes:
        return self._tokens[id]

    def encode(self, text: str, /) -> list[int]:
        """Takes the first word of the list that fits, which is not always the longest."""
        data = (b" " if self._leading_space else b"") + text.encode()
        ids = []
        while data:
            fits = (256 + i for i, word in enumerate(self.words) if word and data.startswith(word))
            ids.append(next(fits, data[0]))
            data = data[len(self._tokens[ids[-1]]) :]
        return ids


VOCABULARY = SmallVocabulary()


@pytest.fixture
def compiler() -> GrammarCompiler:
    return GrammarCompiler(VOCABULARY, WIDTH)


def allowed(state: GrammarState, width: int = WIDTH) -> set[int]:
    words = np.zeros(-(-width // 32), np.uint32)
    state.fill_mask(words)
    return set(np.unpackbits(words.view(np.uint8), bitorder="little").nonzero()[0].tolist())


def feed(state: GrammarState, text: str) -> GrammarState:
    for byte in text.encode():
        state.accept(byte)
    return state


def walk(state: GrammarState, rng: np.random.Generator, max_tokens: int) -> str | None:
    """Random output of the grammar; None if it did not end."""
    output = b""
    for _ in range(max_tokens):
        if state.is_finished:
            return output.decode()
        choices = sorted(allowed(state))
        assert choices
        if VOCABULARY.eos in choices and (len(choices) == 1 or rng.random() < 0.5):
            return output.decode()
        token = int(rng.choice([i for i in choices if i != VOCABULARY.eos]))
        state.accept(token)
        output += VOCABULARY.token_bytes(token)
    return None


PERSON = {
    "type": "object",
    "properties": {
        "name": {"enum": ["Ada", "hello world", "\u00e9t\u00e9"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "null"}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def is_person(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"name", "age"} <= set(value) <= {"name", "age", "flag", "list"}
        and value["name"] in ("Ada", "hello world", "\u00e9t\u00e9")
        and type(value["age"]) is int
        and 0 <= value["age"] <= 120
        and isinstance(value.get("flag", True), bool)
        and value.get("list", []) in ([None] * n for n in range(4))
    )


def test_every_output_of_a_schema_is_json_that_satisfies_it(compiler: GrammarCompiler) -> None:
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(100):
        text = walk(compiler.compile(SamplingParams(json_schema=PERSON)), rng, 400)
        if text is not None:
            assert is_person(json.loads(text)), text
            ended += 1
    assert ended > 80


@pytest.mark.parametrize("pattern", [r"[ab]{2,5}c|xyz", r"\d+(\.\d+)?", "(?i)hello|w\u00e9", ""])
def test_every_output_of_a_regex_matches_it(compiler: GrammarCompiler, pattern: str) -> None:
    rng = np.random.default_rng(1)
    texts = [walk(compiler.compile(SamplingParams(regex=pattern)), rng, 200) for _ in range(50)]
    texts = [text for text in texts if text is not None]
    assert len(texts) > 25
    # Not re, whose digits are those of the Unicode version of Python.
    assert all(regex.fullmatch(pattern, text) for text in texts)


def test_every_output_of_a_lark_grammar_belongs_to_its_language(compiler: GrammarCompiler) -> None:
    source = 'start: "(" start ")" | NUMBER\nNUMBER: /[0-9]/'
    rng = np.random.default_rng(2)
    texts = [walk(compiler.compile(SamplingParams(grammar=source)), rng, 60) for _ in range(50)]
    for text in texts:
        if text is not None:
            depth = (len(text) - 1) // 2
            assert re.fullmatch(rf"\({{{depth}}}[0-9]\){{{depth}}}", text)


def test_the_end_is_allowed_where_the_grammar_may_end(compiler: GrammarCompiler) -> None:
    state = compiler.compile(SamplingParams(regex="ab*"))
    assert allowed(state) == {ord("a")}
    state.accept(ord("a"))
    assert not state.is_finished
    assert allowed(state) == {ord("b"), VOCABULARY.eos}
    state.accept(VOCABULARY.eos)
    assert state.is_finished


def test_a_complete_output_is_finished_without_an_end_token(compiler: GrammarCompiler) -> None:
    state = compiler.compile(SamplingParams(json_schema={"const": True}))
    assert not state.is_finished
    state.accept(VOCABULARY.encode("true")[0])
    assert state.is_finished
    assert allowed(state) == {VOCABULARY.eos}
    state.accept(VOCABULARY.eos)
    assert state.error is None


def test_control_tokens_and_ids_beyond_the_vocabulary_are_never_text(
    compiler: GrammarCompiler,
) -> None:
    ids = allowed(compiler.compile(SamplingParams(regex="(?s:.)*")))
    assert VOCABULARY.eos in ids
    assert ids - {VOCABULARY.eos} <= set(range(268))
    assert {ord("<"), ord("s"), *range(256, 268)} <= ids
    for width in (288, 289, 310, 320):  # whole words and not
        wide = GrammarCompiler(VOCABULARY, width)
        assert allowed(wide.compile(SamplingParams(regex="(?s:.)*")), width) == ids


def test_logits_may_be_narrower_than_the_vocabulary() -> None:
    vocabulary = SmallVocabulary()
    vocabulary.eog_ids = frozenset({10, vocabulary.eos})
    narrow = GrammarCompiler(vocabulary, 258)
    ids = allowed(narrow.compile(SamplingParams(regex="(?s:.)*")), 258)
    assert {10, 256, 257} <= ids <= set(range(258))


@pytest.mark.parametrize("leading_space", [False, True])
def test_forced_text_is_written_as_the_tokenizer_writes_it(leading_space: bool) -> None:
    vocabulary = SmallVocabulary(leading_space=leading_space)
    compiler = GrammarCompiler(vocabulary, WIDTH)
    state = compiler.compile(SamplingParams(grammar='start: "hello world" | "hello worst"'))
    output = []
    while not state.is_finished:
        choices = allowed(state)
        token = min(choices)
        output.append(vocabulary.token_bytes(token))
        state.accept(token)
    assert output[:2] == [b"hel", b"lo"]
    assert b"".join(output) in (b"hello world", b"hello worst")


def test_a_tokenizer_that_changes_the_text_forces_no_wrong_text() -> None:
    vocabulary = SmallVocabulary()
    vocabulary.encode = lambda text: [ord("x")] * len(text)  # type: ignore[method-assign]
    compiler = GrammarCompiler(vocabulary, WIDTH)
    state = compiler.compile(SamplingParams(regex="hello world!"))
    output = []
    while not state.is_finished:
        token = min(allowed(state))
        output.append(vocabulary.token_bytes(token))
        state.accept(token)
    assert output == [b"hello", b" world", b"!"]


def test_white_space_in_json_is_bounded(compiler: GrammarCompiler) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    params = SamplingParams(json_schema=schema)
    feed(compiler.compile(params), "{" + " " * 16 + '"a" :\n null}')
    with pytest.raises(InvalidArgumentError, match="the grammar has failed"):
        feed(compiler.compile(params), "{" + " " * 17)


def test_a_token_outside_of_the_mask_fails_the_grammar(compiler: GrammarCompiler) -> None:
    state = compiler.compile(SamplingParams(regex="ab"))
    with pytest.raises(InvalidArgumentError, match="the grammar has failed"):
        state.accept(ord("x"))
    assert isinstance(state.error, InvalidArgumentError)
    assert allowed(state) == set()


def test_states_of_one_grammar_are_independent(compiler: GrammarCompiler) -> None:
    params = SamplingParams(regex="[ab]c")
    first, second = compiler.compile(params), compiler.compile(params)
    first.accept(ord("a"))
    assert allowed(first) == {ord("c")}
    assert allowed(second) == {ord("a"), ord("b")}
    with pytest.raises(InvalidArgumentError):
        first.accept(ord("x"))
    assert second.error is None
    assert compiler.compile(params).error is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"json_schema": ""}, "json_schema cannot be followed: EOF while parsing"),
        ({"json_schema": '{"type":'}, "json_schema cannot be followed: EOF while parsing"),
        ({"json_schema": "[1]"}, "Expecting object schema"),
        ({"json_schema": "false"}, "Expecting object schema"),
        ({"json_schema": '{"type": "foo"}'}, "Invalid type: foo"),
        ({"json_schema": '{"enum": []}'}, "Unsatisfiable"),
        ({"json_schema": '{"unevaluatedProperties": false}'}, "Unimplemented keys"),
        ({"json_schema": '{"$ref": "https://example.com/x"}'}, "example.com"),
        ({"json_schema": '{"$ref": "file:///etc/passwd"}'}, "etc/passwd"),
        ({"json_schema": '{"const": "\\ud800"}'}, "hex escape"),
        ({"json_schema": '{"minimum": 1e999}'}, "number out of range"),
        ({"json_schema": '{} | "x"'}, "trailing characters"),
        ({"json_schema": '{"a":[' * 2000}, "recursion limit"),
        (
            {"json_schema": '{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/a"}}}'},
            "json_schema cannot be followed",
        ),
        ({"regex": "("}, "regex cannot be followed: .*unclosed group"),
        ({"regex": r"(a)\1"}, "regex cannot be followed"),
        ({"regex": "(" * 5000 + ")" * 5000}, "regex cannot be followed"),
        ({"grammar": ""}, "grammar cannot be followed: Empty grammar"),
        ({"grammar": "start: foo"}, r'grammar cannot be followed: at 1\(8\): unknown name: "foo"'),
        ({"grammar": "start: \x00\x1b[31m"}, "grammar cannot be followed"),
        ({"grammar": "%llguidance"}, "grammar cannot be followed"),
        ({"grammar": "start: <[99999]>"}, "grammar cannot be followed"),
        ({"grammar": "start: " + "(" * 50_000}, "too deeply nested"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_followed_is_refused_in_one_line(
    compiler: GrammarCompiler, params: dict[str, str], message: str
) -> None:
    for _ in range(2):  # the second time from the cache
        with pytest.raises(InvalidArgumentError, match=message) as caught:
            compiler.compile(SamplingParams(**params))
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()


def chain(template: str, count: int) -> str:
    return "".join(template.format(i, i + 1) for i in range(count))


BOMBS: dict[str, Callable[[], dict[str, str]]] = {
    "nested quantifiers": lambda: {"regex": "(a+)+$"},
    "counted quantifiers": lambda: {"regex": "((a{1,1000}){1,1000}){1,1000}"},
    "quantified wildcards": lambda: {"regex": "(.*a.*b)*" * 20_000},
    "long wildcard": lambda: {"regex": ".*a.{2000}"},
    "many alternatives": lambda: {"regex": "|".join(f"{i:x}" for i in range(50_000))},
    "many literals": lambda: {"grammar": "start: " + " | ".join(f'"{i:x}"' for i in range(29_000))},
    "2^30 by doubling": lambda: {
        "grammar": "start: a0\n" + chain("a{0}: a{1} a{1}\n", 30) + 'a30: "x"'
    },
    "left recursion": lambda: {"grammar": 'start: start "a" | "a" | start start'},
    "chain of rules": lambda: {
        "grammar": "start: a0\n" + chain('a{0}: "x" a{1}\n', 12_000) + 'a12000: "x"'
    },
    "chain of alternatives": lambda: {
        "grammar": "start: a0\n" + chain('a{0}: a{1} | "{0}"\n', 11_000) + 'a11000: "x"'
    },
    "chain of terminals": lambda: {
        "grammar": "start: A0\n" + chain('A{0}: "x" A{1}\n', 12_000) + 'A12000: "x"'
    },
    "chain of references": lambda: {
        "json_schema": '{"$ref":"#/d0",'
        + chain('"d{0}":{{"$ref":"#/d{1}"}},', 15_000)
        + '"d15000":{}}'
    },
    "chain of intersections": lambda: {
        "json_schema": '{"$ref":"#/d0",'
        + chain('"d{0}":{{"allOf":[{{"$ref":"#/d{1}"}},{{"$ref":"#/d{1}"}}]}},', 8_000)
        + '"d8000":{}}'
    },
    "chain of arrays": lambda: {
        "json_schema": '{"$ref":"#/d0",'
        + chain('"d{0}":{{"items":{{"$ref":"#/d{1}"}}}},', 10_000)
        + '"d10000":{}}'
    },
    "reference cycle": lambda: {
        "json_schema": '{"$ref":"#/a","a":{"$ref":"#/b"},"b":{"$ref":"#/a"}}'
    },
    "half a megabyte of one value": lambda: {"json_schema": json.dumps({"const": "a b" * 150_000})},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_grammar_takes_long_or_ends_the_process(compiler: GrammarCompiler, bomb: str) -> None:
    compiler.compile(SamplingParams(regex="warm"))
    params = SamplingParams(**BOMBS[bomb]())  # type: ignore[arg-type]
    start = time.monotonic()
    try:
        state = compiler.compile(params)
    except InvalidArgumentError:
        state = None
    # A second, and what the machine needs to notice.
    assert time.monotonic() - start < 2.5
    for _ in range(20):
        if state is None or state.error is not None or state.is_finished:
            break
        start = time.monotonic()
        tokens = allowed(state)
        assert time.monotonic() - start < 2.0
        if tokens:
            try:
                state.accept(min(tokens))
            except InvalidArgumentError:
                break


def tools(count: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "object",
            "properties": {
                "name": {"const": f"tool_{i}"},
                "arguments": {
                    "type": "object",
                    "properties": {
                        f"arg_{j}": {"type": "string", "description": "what it does " * 4}
                        for j in range(10)
                    },
                    "required": [f"arg_{j}" for j in range(10)],
                },
            },
            "required": ["name", "arguments"],
        }
        for i in range(count)
    ]


def test_large_valid_schemas_work(compiler: GrammarCompiler) -> None:
    schema = json.dumps({"anyOf": tools(250)})
    assert len(schema) > 250_000
    state = compiler.compile(SamplingParams(json_schema=schema))
    arguments = {f"arg_{j}": "some text" for j in range(10)}
    feed(state, json.dumps({"name": "tool_249", "arguments": arguments}))

    text = {"type": "string", "maxLength": 524_288}
    state = compiler.compile(SamplingParams(json_schema=text))
    feed(state, '"' + "a" * 1000 + '"')
    assert state.is_finished

    assert feed(compiler.compile(SamplingParams(json_schema="true")), "[{}]").is_finished

    empty = {"type": "object", "properties": {}, "additionalProperties": False}
    state = compiler.compile(SamplingParams(json_schema=empty))
    feed(state, "{}")
    assert state.is_finished

    options = {"properties": {f"key{i}": {"type": "integer"} for i in range(500)}}
    state = compiler.compile(SamplingParams(json_schema={"type": "object", **options}))
    feed(state, '{"key3":1,"key400":2,"other":null}')
    assert state.is_finished


def test_a_grammar_in_use_is_compiled_once(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    build = grammar_module._build

    def counting(tokens: Any, kind: str, text: str) -> Any:
        built.append(text)
        return build(tokens, kind, text)

    monkeypatch.setattr(grammar_module, "_build", counting)
    monkeypatch.setattr(grammar_module, "MAX_CACHED_GRAMMARS", 3)
    for text in ("a", "b", "a", "(", "a", "(", "c", "a", "d", "b"):
        try:
            compiler.compile(SamplingParams(regex=text))
        except InvalidArgumentError:
            assert text == "("
    compiler.compile(SamplingParams(grammar='start: "a"'))
    assert built[:4] == ["a", "b", "(", "c"]


@pytest.mark.parametrize(
    ("max_entries", "max_bytes", "kept"),
    [(2, 100, ["c", "dd"]), (9, 5, ["bb", "c", "dd"]), (9, 4, ["c", "dd"]), (9, 1, [])],
)
def test_the_cache_keeps_what_was_used_last_within_both_bounds(
    max_entries: int, max_bytes: int, kept: list[str]
) -> None:
    cache = grammar_module._Cache(max_entries, max_bytes)
    for text in ("a", "bb", "c", "dd", "dd"):
        cache.put(("regex", text), text)
    assert [text for text in ("a", "bb", "c", "dd") if cache.get(("regex", text))] == kept


def test_a_used_entry_outlives_an_unused_one() -> None:
    cache = grammar_module._Cache(2, 100)
    cache.put(("regex", "a"), "a")
    cache.put(("regex", "b"), "b")
    cache.get(("regex", "a"))
    cache.put(("regex", "c"), "c")
    assert cache.get(("regex", "a")) == "a"
    assert cache.get(("regex", "b")) is None


def test_a_compilation_that_takes_too_long_is_given_up(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler.compile(SamplingParams(regex="warm"))
    go_on = threading.Event()
    build = grammar_module._build

    def slow(tokens: Any, kind: str, text: str) -> Any:
        if text == "slow":
            go_on.wait()
        return build(tokens, kind, text)

    monkeypatch.setattr(grammar_module, "_build", slow)
    monkeypatch.setattr(grammar_module, "COMPILE_TIMEOUT_S", 0.05)
    with pytest.raises(InvalidArgumentError, match=r"compiling it takes over 0.05 s"):
        compiler.compile(SamplingParams(regex="slow"))
    with pytest.raises(CapacityError, match="other grammars are being compiled"):
        compiler.compile(SamplingParams(regex="quick"))
    assert compiler.compile(SamplingParams(regex="warm")).error is None
    go_on.set()
    monkeypatch.setattr(grammar_module, "COMPILE_TIMEOUT_S", 5.0)
    assert compiler.compile(SamplingParams(regex="quick")).error is None
    # It was not the grammar's fault: what the thread has made of it by then is used.
    assert compiler.compile(SamplingParams(regex="slow")).error is None


def test_a_compiler_that_fails_fails_the_request_alone(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        pass

    def panic(tokens: Any, kind: str, text: str) -> Any:  # noqa: ARG001
        msg = "index out\nof bounds"
        raise Panic(msg)

    with monkeypatch.context() as patched:
        patched.setattr(grammar_module, "_build", panic)
        with pytest.raises(InvalidArgumentError, match="the compiler failed: index out of bounds"):
            compiler.compile(SamplingParams(regex="a"))
    assert compiler.compile(SamplingParams(regex="b")).error is None


def test_the_stack_size_of_other_threads_stays_as_it_was(compiler: GrammarCompiler) -> None:
    before = threading.stack_size(1024 * 1024)
    try:
        compiler.compile(SamplingParams(regex="a"))
        assert threading.stack_size() == 1024 * 1024
    finally:
        threading.stack_size(before)


def test_many_threads_may_compile_at_once(compiler: GrammarCompiler) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        for i in range(10):
            text = f"thread {(number + i) % 7}"
            state = feed(compiler.compile(SamplingParams(regex=text)), text)
            if not state.is_finished:
                failures.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_vocabulary_without_an_end_token_has_no_grammars() -> None:
    vocabulary = SmallVocabulary()
    vocabulary.eog_ids = frozenset()
    with pytest.raises(UnsupportedError, match="no end token"):
        GrammarCompiler(vocabulary, WIDTH).compile(SamplingParams(regex="a"))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_sampling_under_a_grammar_gives_json(compiler: GrammarCompiler, temperature: float) -> None:
    params = SamplingParams(json_schema=PERSON, temperature=temperature, top_k=0)
    rng = np.random.default_rng(3)
    sampler = _native.cpu.Sampler(WIDTH, _native.cpu.available_isas()[-1])
    builder = SamplingBatchBuilder(1, WIDTH)
    ended = 0
    for seed in range(20):
        state = SamplerState(params, [], WIDTH, seed, compiler.compile(params))
        output = b""
        for position in range(200):
            logits = rng.normal(0, 3, (1, WIDTH)).astype(np.float32)
            result = sampler.sample(logits, builder.build([state], [position]))
            token = int(result["token_ids"][0])
            state.append(token)
            if token == VOCABULARY.eos:
                break
            output += VOCABULARY.token_bytes(token)
            if state.is_finished:
                break
        if state.is_finished:
            ended += 1
            assert is_person(json.loads(output)), output
    assert ended > 10


@pytest.mark.parametrize("name", ["llama-bpe", "llama-spm"])
def test_real_vocabularies_write_forced_json_in_their_own_tokens(testdata: Path, name: str) -> None:
    tokenizer = Tokenizer.from_gguf(testdata / "vocab" / f"ggml-vocab-{name}.gguf")
    width = tokenizer.vocab_size
    compiler = GrammarCompiler(tokenizer, width)
    state = compiler.compile(SamplingParams(json_schema={"const": "hello world"}))
    tokens = []
    while not state.is_finished:
        tokens.append(min(allowed(state, width)))
        state.accept(tokens[-1])
    data = b"".join(tokenizer.token_bytes(token) for token in tokens)
    assert data == b'"hello world"'
    assert len(tokens) <= 5
