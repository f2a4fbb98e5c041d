"""Tiny ONNX models, written byte by byte: hidden states are rows of a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["[PAD]", "[CLS]", "the", "cat", "sat", "on", "mat"]


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, kind: int, dims: list[str | int]) -> bytes:
    shape = b"".join(_field(1, _field(2 if isinstance(d, str) else 1, d)) for d in dims)
    tensor = _field(1, kind) + _field(2, shape)
    return _field(1, name) + _field(2, _field(1, tensor))


def onnx_model(table: np.ndarray, inputs: tuple[str, ...] = ("input_ids",)) -> bytes:
    """A graph of one Gather; further inputs are declared and not used."""
    data = np.ascontiguousarray(table, np.float32)
    tensor = b"".join(_field(1, n) for n in data.shape) + _field(2, 1)
    tensor += _field(8, "table") + _field(9, data.tobytes())
    node = _field(1, "table") + _field(1, inputs[0]) + _field(2, "last_hidden_state")
    graph = _field(1, node + _field(4, "Gather")) + _field(2, "tiny") + _field(5, tensor)
    graph += b"".join(_field(11, _value(name, 7, ["texts", "tokens"])) for name in inputs)
    graph += _field(12, _value("last_hidden_state", 1, ["texts", "tokens", data.shape[1]]))
    opset = _field(1, "") + _field(2, 13)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


def write_tokenizer(folder: Path) -> None:
    """Words, with [CLS] before them; padding and truncation as exports have them."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 16}))
