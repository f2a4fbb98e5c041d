"""SentencePiece's precompiled character map: the longest rule at each place of a text wins.

Layout (normalizer.cc): u32 size of a trie in bytes, the trie, then the replacements, each ended by
a zero byte. The trie is a double array (Darts-clone): unit i has the child for byte c at
i ^ offset(i) ^ c if that unit carries the label c; a unit with bit 8 set has a value, the place of
its replacement, in the unit at i ^ offset(i).
"""

from __future__ import annotations

import re
import struct
from typing import Final

from rocmforge.gguf import Metadata

_KEY: Final = "tokenizer.ggml.precompiled_charsmap"
_HEADER: Final = struct.Struct("<I")


class CharacterMap:
    """Applies the rules to UTF-8 in one pass, O(n x the length of the longest rule)."""

    def __init__(self, metadata: Metadata, data: bytes) -> None:
        """Raises ModelFileError for a map whose parts do not fit into it."""
        self._metadata = metadata
        size = _HEADER.unpack_from(data)[0] if len(data) >= _HEADER.size else 0
        end = _HEADER.size + size
        if not size or size % 4 or end >= len(data):
            message = f"a trie of {size} bytes does not fit a map of {len(data)}"
            metadata.fail(_KEY, message)
        if data[-1] != 0:
            metadata.fail(_KEY, "the last replacement has no end")
        self._units: tuple[int, ...] = struct.unpack(f"<{size // 4}I", data[_HEADER.size : end])
        self._replacements = data[end:]
        self._inert = self._find_inert()

    @classmethod
    def from_metadata(cls, metadata: Metadata) -> CharacterMap | None:
        if not metadata.count(_KEY):
            return None
        values = metadata.ints(_KEY, minimum=-128, maximum=255)
        return cls(metadata, bytes(int(value) & 0xFF for value in values))

    def apply(self, text: str) -> str:
        data = text.encode()
        pieces: list[bytes] = []
        position = 0
        while position < len(data):
            if run := self._inert.match(data, position):
                pieces.append(run[0])
                position = run.end()
                continue
            length, replacement = self._longest_rule(data, position)
            if length == 0:
                length = _character_length(data[position])
                replacement = data[position : position + length]
            pieces.append(replacement)
            position += length
        return b"".join(pieces).decode(errors="replace")

    def _longest_rule(self, data: bytes, start: int) -> tuple[int, bytes]:
        """Length of the longest rule that matches at `start`, 0 if none, and what replaces it."""
        node = _offset(self._unit(0))
        length = place = 0
        for position in range(start, len(data)):
            label = data[position]
            node ^= label
            unit = self._unit(node)
            if label == 0 or unit & 0x800000FF != label:
                break
            node ^= _offset(unit)
            if unit >> 8 & 1:
                length = position - start + 1
                place = self._unit(node) & 0x7FFFFFFF
        if length == 0:
            return 0, b""
        if place >= len(self._replacements):
            self._metadata.fail(_KEY, f"a replacement at {place} is outside of the map")
        return length, self._replacements[place : self._replacements.index(0, place)]

    def _unit(self, index: int) -> int:
        if index >= len(self._units):
            self._metadata.fail(_KEY, f"unit {index} is outside of the trie")
        return self._units[index]

    def _find_inert(self) -> re.Pattern[bytes]:
        """Runs of ASCII that no rule touches, for speed; rules may join with what is not ASCII."""
        ascii_range = range(1, 128)
        root = _offset(self._unit(0))
        inert = []
        for first in ascii_range:
            node = root ^ first
            unit = self._unit(node)
            if unit & 0x800000FF == first:
                children = node ^ _offset(unit)
                if unit >> 8 & 1 or any(
                    self._unit(children ^ second) & 0x800000FF == second for second in ascii_range
                ):
                    continue
            inert.append(first)
        characters = "".join(f"\\x{byte:02x}" for byte in inert)
        # Without inert bytes, a pattern that never matches.
        return re.compile(f"[{characters}]+(?![\\x80-\\xff])".encode() if inert else b"(?!)")


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 1 << 9) >> 6)


def _character_length(first: int) -> int:
    """Bytes of the UTF-8 character that starts with this byte."""
    return 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
