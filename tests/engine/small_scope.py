"""Everything that can happen to three requests in a pool of four blocks, to a depth.

Worlds are told apart by what the scheduler will ever look at; of those that are alike one is gone
on with. What must hold after every action is what the simulation checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fake_decoder import FakeDecoder
from simulated_client import Client

from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Cancel, Event, Submit
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.errors import OutOfMemoryError

# Two that begin alike, the second of another namespace's twin, and one that fills half the pool.
PROMPTS = ([1, 2, 3], [1, 2, 4], [1, 2, 3, 5])
NAMESPACES = ("", "", "other")
MAX_TOKENS = 3
Action = tuple[str, int]


class World:
    def __init__(self, lookahead: int) -> None:
        self.decoder = FakeDecoder(
            num_blocks=4,
            block_size=2,
            vocab_size=9,
            lookahead=lookahead,
            max_num_tokens=4,
            max_num_seqs=2,
            max_model_len=8,
        )
        self.engine = Engine(
            self.decoder, SchedulerConfig(4, 2, 3), self._deliver, clock=lambda: 0.0
        )
        self.clients: dict[int, Client] = {}
        self.has_failed = False
        self._fault: Exception | None = None
        self.decoder.before_enqueue = self._raise_fault

    def actions(self) -> Iterator[Action]:
        yield "step", 0
        if not self.has_failed:
            yield "step without memory", 0
        for i in range(len(PROMPTS)):
            client = self.clients.get(i)
            if client is None:
                yield "submit", i
            elif client.finished is None and not client.cancel_reason:
                yield "cancel", i

    def do(self, action: Action) -> None:
        what, i = action
        if what == "submit":
            params = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0)
            submit = Submit(i, PROMPTS[i], params, seed=i * 16, namespace=NAMESPACES[i])
            self.engine.submit(submit)
            self.clients[i] = Client(submit, self.decoder, 0.0)
        elif what == "cancel":
            self.engine.cancel(Cancel(i))
            self.clients[i].cancel_reason = "cancelled"
        else:
            if what == "step without memory":
                self.has_failed = True
                self._fault = OutOfMemoryError("no memory for this step")
            self._step()

    def drain(self) -> None:
        """All ends, and leaves nothing."""
        for _ in range(200):
            if not self._step():
                break
        assert all(client.finished is not None for client in self.clients.values())
        assert not self.engine.inbox._live
        assert not self.engine.scheduler._promised
        assert self.engine.scheduler.blocks.num_free == self.decoder.num_blocks

    def key(self) -> tuple[object, ...]:
        scheduler, blocks = self.engine.scheduler, self.engine.scheduler.blocks
        entries = [blocks.cache.entry(i) for i in range(blocks.num_blocks)]
        return (
            self.has_failed,
            self._fault is None,
            tuple(
                (i, tuple(c.token_ids), c.cancel_reason, c.finished and c.finished.reason)
                for i, c in sorted(self.clients.items())
            ),
            tuple(
                (r.request_id, r.num_computed_tokens, r.num_scheduled_tokens, *r.block_table)
                for r in scheduler.running
            ),
            tuple(r.request_id for r in scheduler.waiting),
            tuple(sorted(r.request_id for r in scheduler._leaving)),
            tuple(sorted((d, r.request_id) for d, r in scheduler._promised.items())),
            tuple(blocks._free),
            tuple(blocks._evictable),
            tuple(e and (e.token_ids, e.digest) for e in entries),
            len(self.engine._in_flight),
            tuple((type(m).__name__, m.request_id) for m in self.engine.inbox._messages),
        )

    def _step(self) -> bool:
        more = self.engine.step()
        if self.engine.error is not None:
            raise self.engine.error
        self.engine.scheduler.check_integrity()
        for request in self.engine.scheduler.running:
            assert request.output_token_ids == self.clients[request.request_id].token_ids
        for client in self.clients.values():
            if client.cancel_reason:
                assert client.finished is not None
        return more

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            client = self.clients[event.request_id]
            client.take(event, 0.0, is_closed=False, is_lost=False)

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault


@dataclass(frozen=True)
class Explored:
    num_states: int
    num_actions: int


def explore(lookahead: int, depth: int) -> Explored:
    """Raises what an invariant does, with the actions that led there."""
    frontier: list[tuple[Action, ...]] = [()]
    seen = {World(lookahead).key()}
    num_actions = 0
    for _ in range(depth):
        following: list[tuple[Action, ...]] = []
        for path in frontier:
            for action in _after(lookahead, path).actions():
                num_actions += 1
                extended = (*path, action)
                try:
                    world = _after(lookahead, extended)
                    key = world.key()
                    if key not in seen:
                        seen.add(key)
                        following.append(extended)
                        world.drain()
                except AssertionError as error:
                    raise AssertionError(extended) from error
        frontier = following
    return Explored(len(seen), num_actions)


def _after(lookahead: int, path: tuple[Action, ...]) -> World:
    world = World(lookahead)
    for action in path:
        world.do(action)
    return world
