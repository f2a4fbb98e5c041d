"""Bodies that are no JSON, or whose values are of no use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hostile.exchange import Hostile, post

COMPLETIONS, CHAT, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/embeddings"
HELLO = [{"role": "user", "content": "hello"}]


def malformed_bodies() -> Iterator[Hostile]:
    bodies = {
        "nothing": b"",
        "a word": b"hello",
        "a list": b"[]",
        "null": b"null",
        "a number": b"1",
        "cut off": b'{"prompt": "a',
        "lists 100,000 deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "open lists, a million": b"[" * 1_000_000,
        "65 deep": b'{"prompt": ' + b"[" * 65 + b"]" * 65 + b"}",
        "a name twice": b'{"prompt": "a", "prompt": "b", "messages": 1, "messages": 2}',
        "NaN": b'{"temperature": NaN}',
        "Infinity": b'{"temperature": -Infinity}',
        "beyond floats": b'{"temperature": 1e400}',
        "a hundred thousand digits": b'{"seed": ' + b"9" * 100_000 + b"}",
        "half a surrogate pair": b'{"prompt": "\\ud800", "input": "\\ud800", "text": "\\ud800"}',
        "a byte order mark": b'\xef\xbb\xbf{"prompt": "a"}',
        "UTF-16": '{"prompt": "a"}'.encode("utf-16"),
        "UTF-32": '{"prompt": "a"}'.encode("utf-32"),
        "not UTF-8": b'{"prompt": "\xff\xfe"}',
        "overlong UTF-8": b'{"prompt": "\xc0\xaf"}',
        "zero bytes": b"\0" * 1000,
        "a zip archive": b"PK\x03\x04" + b"\0" * 100,
        "a pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x8c\x06system\x93.",
        "a form": b"prompt=a&max_tokens=1",
        "comments": b'{"prompt": "a" /* b */}',
        "a trailing comma": b'{"prompt": "a",}',
        "two values": b'{"prompt": "a"}{"prompt": "b"}',
        "a control character": b'{"prompt": "\x01"}',
    }
    for path in (COMPLETIONS, CHAT, EMBEDDINGS, "/v1/generate", "/tokenize"):
        for name, body in bodies.items():
            yield Hostile(f"{path}: {name}", post(path, body))


def fields() -> Iterator[Hostile]:
    """Every field with values that are not its own."""
    wrong: list[Any] = ["x", "", [], {}, [[]], -1e308, 2**70, 1.5, True]
    taken: dict[str, tuple[Any, ...]] = {  # of those above
        "temperature": (1.5,),
        "top_p": (),
        "min_p": (),
        "top_k": (),
        "n": (),
        "max_tokens": (),
        "seed": (),
        "presence_penalty": (1.5,),
        "frequency_penalty": (1.5,),
        "repetition_penalty": (1.5,),
        "stop": ("x", []),
        "logit_bias": ({},),
        "stream": (True,),
        "stream_options": ({},),
        "ignore_eos": (True,),
        "response_format": (),
        "user": ("x", ""),
        "metadata": ({},),
    }
    for path, start in ((COMPLETIONS, {"prompt": "a"}), (CHAT, {"messages": HELLO})):
        for field, allowed in taken.items():
            for value in wrong:
                if any(
                    value is one or (value == one and type(value) is type(one)) for one in allowed
                ):
                    continue
                body = {**start, "max_tokens": 1, field: value}
                yield Hostile(f"{path}: {field} is {value!r}", post(path, body))


def too_much(max_model_len: int) -> Iterator[Hostile]:
    start = {"prompt": "a", "max_tokens": 1}
    bodies: dict[str, Any] = {
        "a million prompts": {**start, "prompt": ["a"] * 1_000_000},
        "n of a million": {**start, "n": 1_000_000},
        "a million choices": {**start, "n": 8, "prompt": ["a"] * 32},
        "best_of of a million": {**start, "best_of": 1_000_000},
        "10,000 stop strings": {**start, "stop": ["x"] * 10_000},
        "a stop string of a megabyte": {**start, "stop": "x" * 1_000_000},
        "an empty stop string": {**start, "stop": ""},
        "100,000 biases": {**start, "logit_bias": {str(i): 1 for i in range(100_000)}},
        "a bias beyond the logits": {**start, "logit_bias": {"100000000": 1}},
        "a negative id's bias": {**start, "logit_bias": {"-1": 100}},
        "an id of digits that are not ASCII": {**start, "logit_bias": {"\u0661": 1}},
        "token ids beyond the vocabulary": {**start, "prompt": [2**31 - 1]},
        "token ids beyond 32 bits": {**start, "prompt": [2**32]},
        "token ids beyond 64 bits": {**start, "prompt": [2**64]},
        "negative token ids": {**start, "prompt": [-1]},
        "token ids that are no integers": {**start, "prompt": [1.5]},
        "no token ids": {**start, "prompt": []},
        "empty lists of token ids": {**start, "prompt": [[], []]},
        "lists of both kinds": {**start, "prompt": ["a", [1]]},
        "a million token ids": {**start, "prompt": [1] * 1_000_000},
        "a token over the context": {**start, "prompt": [1] * max_model_len},
        "four megabytes of one letter": {**start, "prompt": "a" * 4_000_000},
        "four megabytes of spaces": {**start, "prompt": " " * 4_000_000},
        "more tokens than the context": {**start, "max_tokens": 2**31},
        "100,000 names that are not known": {**start, **{f"a{i}": i for i in range(100_000)}},
        "a cache salt": {**start, "cache_salt": "x"},
        "another chat parser": {**start, "chat_parser": "x"},
        "bad words": {**start, "bad_words": ["\u0120the"]},
        "allowed token ids": {**start, "allowed_token_ids": [10**9]},
        "more tokens at least than at most": {**start, "min_tokens": 5},
        "embeddings for a prompt": {**start, "prompt_embeds": "gASVCwAAAA=="},
        "how much to discard": {**start, "n_discard": -1},
        "a priority": {**start, "priority": -(2**40)},
        "logprobs of a million": {**start, "logprobs": 1_000_000},
        "a suffix": {**start, "suffix": "b"},
        "a path for a model": {**start, "model": ["../../etc/passwd"]},
    }
    for name, body in bodies.items():
        yield Hostile(name, post(COMPLETIONS, body))
    for path in ("../../etc/passwd", "/etc/passwd", "https://example.org/m", "a\0b", "x" * 100_000):
        data = post(COMPLETIONS, {**start, "model": path})
        yield Hostile(f"model {path[:40]!r}", data, frozenset({404}))
    huge = post(COMPLETIONS, b'{"prompt": "' + b"a" * 9_000_000 + b'"}')
    yield Hostile("a body of nine megabytes", huge, frozenset({413}))
    yield Hostile("a million inputs", post(EMBEDDINGS, {"input": ["a"] * 1_000_000}))
    yield Hostile("dimensions", post(EMBEDDINGS, {"input": "a", "dimensions": -1}))
    yield Hostile("a pickled tensor", post(EMBEDDINGS, {"input": {"__reduce__": ["os", "x"]}}))
    yield Hostile("ids to write beyond the vocabulary", post("/detokenize", {"tokens": [10**9]}))
    yield Hostile("negative ids to write", post("/detokenize", {"tokens": [-1]}))
    yield Hostile("two million letters to read", post("/tokenize", {"text": "a" * 2_000_000}))
