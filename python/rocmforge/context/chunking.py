"""Documents into chunks: at ends of paragraphs, else of lines, sentences, words."""

from __future__ import annotations

from rocmforge.context.values import checked_number

DEFAULT_CHARS = 800
MIN_CHARS = 32
MAX_CHARS = 32_768

_ENDS = ("\n\n", "\n", ". ", "! ", "? ", "。", " ")


def chunked(text: str, chars: int = DEFAULT_CHARS) -> list[str]:
    """The text in pieces of up to `chars` characters, without the blanks around them.

    Raises InvalidArgumentError for a size outside MIN_CHARS to MAX_CHARS.
    """
    checked_number(chars, "the size of a chunk", MIN_CHARS, MAX_CHARS)
    pieces = []
    start = 0
    while start < len(text):
        end = _end(text, start, chars)
        pieces.append(text[start:end].strip())
        start = end
    return [piece for piece in pieces if piece]


def _end(text: str, start: int, chars: int) -> int:
    """Where the chunk from `start` ends: in the later half of what it may have, if anything does."""
    most = start + chars
    if most >= len(text):
        return len(text)
    for end in _ENDS:
        found = text.rfind(end, start + chars // 2, most)
        if found >= 0:
            return found + len(end)
    return most
