"""Random workloads against the real engine; see simulator.py for what is checked."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from known_bugs import KNOWN_BUGS, KnownBug
from simulator import Simulation

from rocmforge.engine import prefix_cache
from rocmforge.errors import UnavailableError

NUM_BATCHES = 20
NUM_SEEDS = 2000
NUM_TURNS = 500
# What every known bug is found within.
BUG_SEEDS = 400
BUG_TURNS = 100


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of failures that are meant to happen are not worth their log entries."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("batch", range(NUM_BATCHES))
def test_invariants_hold_after_every_step(batch: int) -> None:
    for seed in range(batch, NUM_SEEDS, NUM_BATCHES):
        Simulation(seed).run(NUM_TURNS)


@pytest.mark.parametrize("bug", KNOWN_BUGS, ids=lambda bug: bug.name.replace(" ", "_"))
def test_a_known_bug_is_found(bug: KnownBug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.bring_in(monkeypatch)
    assert first_bad_seed() is not None


def first_bad_seed() -> int | None:
    """None if nothing is found."""
    for seed in range(BUG_SEEDS):
        try:
            Simulation(seed).run(BUG_TURNS)
        except Exception:  # noqa: BLE001 - an assertion of any invariant, or what a bug led to
            return seed
    return None


def test_there_are_twenty_known_bugs() -> None:
    assert len({bug.name for bug in KNOWN_BUGS}) >= 20


def test_digest_collisions_change_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """With eight possible digests nearly every lookup hits something wrong."""
    real = prefix_cache.chain_digest
    monkeypatch.setattr(prefix_cache, "chain_digest", lambda p, c: bytes([real(p, c)[0] % 8]))
    for seed in range(1000, 1060):
        Simulation(seed).run(num_turns=60)


def test_lookahead_changes_no_token() -> None:
    for seed in range(2000, 2030):
        ends = []
        for lookahead in (0, 1):
            simulation = Simulation(seed, lookahead=lookahead)
            simulation._cancel_rate = simulation._oom_rate = 0
            for _ in range(20):
                simulation.submit()
            simulation.drain()
            ends.append({i: (c.token_ids, c.finished) for i, c in simulation.clients.items()})
        assert ends[0].keys() == ends[1].keys()
        for request_id, (token_ids, finished) in ends[0].items():
            assert ends[1][request_id][0] == token_ids
            assert ends[1][request_id][1].reason == finished.reason


def test_a_seed_replays_to_the_same_log() -> None:
    logs = []
    for _ in range(2):
        simulation = Simulation(7)
        simulation.run(num_turns=60)
        logs.append(simulation.log)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 60


def test_a_lost_device_ends_everything_with_a_typed_error() -> None:
    for seed in range(3000, 3030):
        simulation = Simulation(seed)
        rng = random.Random(seed)
        for _ in range(10):
            simulation.submit()
        for _ in range(rng.randint(0, 6)):
            simulation.step()
        if not simulation.engine.has_work and not simulation.engine.inbox.has_messages:
            continue
        simulation.lose_device()
        simulation.step()
        assert not simulation.engine.stats().healthy
        assert all(client.finished is not None for client in simulation.clients.values())
        failed = [c.finished for c in simulation.clients.values() if c.finished.reason == "error"]
        assert failed
        waited = [f for f in failed if isinstance(f.error, UnavailableError)]
        assert len(waited) < len(failed)
        simulation.drain()
