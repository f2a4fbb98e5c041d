"""Text given as an argument, on stdin or in a file."""

from __future__ import annotations

import sys
from pathlib import Path

from rocmforge.errors import InvalidArgumentError


def text_or_stdin(text: str) -> str:
    """`text`, or all of stdin where it is `-`. stdin has to be UTF-8."""
    return _decoded(sys.stdin.buffer.read(), "stdin") if text == "-" else text


def text_of_file(path: str) -> str:
    """Raises InvalidArgumentError for a file that cannot be read or is not UTF-8."""
    try:
        return _decoded(Path(path).read_bytes(), path)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise InvalidArgumentError(msg) from None


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        msg = f"{source} is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
        raise InvalidArgumentError(msg) from None
