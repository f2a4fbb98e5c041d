"""One damaged file of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

# 0, 1, largest - 1, largest and the powers of two at which narrower integers wrap.
EXTREMES = {
    "0": 0,
    "1": 1,
    "2p31": 1 << 31,
    "2p32": 1 << 32,
    "2p62": 1 << 62,
    "2p63": 1 << 63,
    "max_less_1": (1 << 64) - 2,
    "max": (1 << 64) - 1,
}
EXTREMES_32 = {
    "0": 0,
    "1": 1,
    "2p31": 1 << 31,
    "max_less_1": (1 << 32) - 2,
    "max": (1 << 32) - 1,
}


@dataclass(frozen=True)
class Case:
    """`match` is a regular expression that the error has to fit; None: the file is valid."""

    name: str
    data: bytes
    match: str | None
