"""What goes into a context store and comes out of it, and the bounds of both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from rocmforge.errors import InvalidArgumentError

MAX_NAME_CHARS = 512
MAX_QUERY_CHARS = 8192
MAX_K = 50
MAX_DEPTH = 4
MAX_LINKED = 50
MAX_DIMENSIONS = 16384

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Quotas:
    """Of one file, all its stores together; `document_bytes` of one document's text."""

    documents: int = 10_000
    chunks: int = 100_000
    bytes: int = 256 * 1024 * 1024
    document_bytes: int = 4 * 1024 * 1024
    links: int = 100_000
    stores: int = 100


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: `k` chunks that match, then up to `linked` that documents linked from
    theirs have, over up to `depth` links."""

    query: str
    k: int = 5
    depth: int = 1
    linked: int = 2

    def __post_init__(self) -> None:
        """Raises InvalidArgumentError for what is out of bounds."""
        checked_text(self.query, "query")
        if len(self.query) > MAX_QUERY_CHARS:
            msg = f"query has {len(self.query)} characters; the limit is {MAX_QUERY_CHARS}"
            raise InvalidArgumentError(msg)
        checked_number(self.k, "k", 1, MAX_K)
        checked_number(self.depth, "depth", 0, MAX_DEPTH)
        checked_number(self.linked, "linked", 0, MAX_LINKED)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    name: str
    embedder: str
    """Which model made the vectors; empty where there are none."""
    dimensions: int
    num_documents: int
    num_chunks: int


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    name: str
    num_bytes: int
    """Of its text in UTF-8."""
    num_chunks: int
    added_at: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Hit:
    document: str
    position: int
    """Of the chunk in its document, from 0."""
    text: str
    score: float
    """Of reciprocal rank fusion: a chunk that comes first by vector and by words has 2 / 61."""
    via: Literal["match", "link"]
    order: tuple[int, int]
    """The same for a chunk in every search: when its document came first, and its position."""

    def report(self) -> dict[str, Any]:
        names = ("document", "position", "text", "score", "via")
        return {name: getattr(self, name) for name in names}


def checked_label(label: str, what: str) -> str:
    """A store's or a link's name. Raises InvalidArgumentError."""
    if not _LABEL.fullmatch(label):
        msg = (
            f"{what} is {label[:80]!r}; it has to be 1 to 64 letters, digits, dots, dashes and "
            "underscores, the first a letter or a digit"
        )
        raise InvalidArgumentError(msg)
    return label


def checked_name(name: str) -> str:
    """A document's. Raises InvalidArgumentError."""
    checked_text(name, "the document's name")
    if len(name) > MAX_NAME_CHARS:
        msg = f"the document's name has {len(name)} characters; the limit is {MAX_NAME_CHARS}"
        raise InvalidArgumentError(msg)
    return name


def checked_text(text: str, what: str) -> bytes:
    """The text in UTF-8. Raises InvalidArgumentError for one that is blank or is no text."""
    if "\0" in text:
        msg = f"{what} has a NUL character at {text.index(chr(0))}; take it out"
        raise InvalidArgumentError(msg)
    if not text.strip():
        msg = f"{what} is empty"
        raise InvalidArgumentError(msg)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        msg = f"{what} has half of a surrogate pair at {error.start}, which is no character"
        raise InvalidArgumentError(msg) from None


def checked_number(value: int, name: str, least: int, most: int) -> int:
    if not least <= value <= most:
        msg = f"{name} is {value}; it can be {least} to {most}"
        raise InvalidArgumentError(msg)
    return value
