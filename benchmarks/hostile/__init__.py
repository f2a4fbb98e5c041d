"""Requests that nobody means well with: bytes for a socket, and the statuses that may answer them.

What they try is collected from advisories and bug reports on servers of this kind: JSON and HTTP
that parsers disagree on, values outside of every range, paths and hosts that resemble others,
prompts, schemas, grammars and templates that cost more to take than to send.
"""

from __future__ import annotations

from hostile.bodies import fields, malformed_bodies, too_much
from hostile.exchange import Answer, Hostile, ask
from hostile.http_bytes import http
from hostile.meanings import chats, structured

__all__ = ["Answer", "Hostile", "ask", "hostile_requests"]


def hostile_requests(max_model_len: int) -> list[Hostile]:
    """All of them, for a model with a context of so many tokens."""
    return [
        *malformed_bodies(),
        *fields(),
        *too_much(max_model_len),
        *structured(),
        *chats(),
        *http(),
    ]
