"""All that can happen in a small world, to a depth; tools/simulate.py --depth goes deeper."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from known_bugs import KNOWN_BUGS
from small_scope import explore

DEPTH = 8


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_every_order_of_events_keeps_the_invariants(lookahead: int) -> None:
    assert explore(lookahead, DEPTH).num_states > 2000


@pytest.mark.parametrize(
    "name",
    [
        "a cancelled request keeps its blocks",
        "a hit is not counted",
        "an evicted block is still found",
        "an ended request is never forgotten",
        "one token more than was asked for",
    ],
)
def test_a_known_bug_is_found_in_the_small_world(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bug,) = (bug for bug in KNOWN_BUGS if bug.name == name)
    bug.bring_in(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        explore(lookahead=0, depth=6)
