"""Small vocabularies as GGUF files, of any form."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gguf_bytes.writer import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    GGUFBytes,
    array,
    scalar,
    string,
)

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

SPACE = "\u2581"

# Byte b as byte-level vocabularies write it (OpenAI's bytes_to_unicode).
_KEPT = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_CHARACTERS = [
    chr(byte) if byte in _KEPT else chr(256 + sum(other not in _KEPT for other in range(byte)))
    for byte in range(256)
]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level(text: str) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in text.encode())


def write_vocabulary(
    path: Path, model: str | None, tokens: Sequence[str] | None, **values: Any
) -> Path:
    """A file of metadata only. `values`: names behind "tokenizer.ggml.", or whole keys."""
    file = GGUFBytes().set("general.architecture", string("llama"))
    if model is not None:
        file.set("tokenizer.ggml.model", string(model))
    if tokens is not None:
        file.set("tokenizer.ggml.tokens", array(STRING, list(tokens)))
    for name, value in values.items():
        file.set(name if "." in name else f"tokenizer.ggml.{name}", _packed(value))
    path.write_bytes(file.build())
    return path


def _packed(value: Any) -> bytes:
    match value:
        case bool():
            return scalar(BOOL, value)
        case int():
            return scalar(U32, value) if value >= 0 else scalar(I32, value)
        case str():
            return string(value)
        case bytes():
            return struct.pack("<IIQ", ARRAY, U8, len(value)) + value
        case [float(), *_]:
            return array(F32, value)
        case [int(), *_]:
            return array(I32, value)
        case _:
            return array(STRING, value)


def float32(values: Sequence[float]) -> list[float]:
    """The values as a file of 32-bit floats keeps them."""
    return [float(value) for value in np.array(values, np.float32)]
