"""Chunks as text before a question."""

from __future__ import annotations

from collections.abc import Sequence

from rocmforge.context.values import Hit

_HEAD = "Excerpts from documents that may help:\n\n"


def as_prompt(hits: Sequence[Hit]) -> str:
    """Empty without hits.

    The order is that of documents and positions, not of scores: questions that find the same
    chunks have the same beginning, which the prefix cache then serves.
    """
    pieces = []
    last = None
    for hit in sorted(hits, key=lambda hit: hit.order):
        if hit.document != last:
            pieces.append(f"[{hit.document}]\n")
            last = hit.document
        pieces.append(f"{hit.text}\n\n")
    return _HEAD + "".join(pieces) if pieces else ""
