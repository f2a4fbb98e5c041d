"""Figures of a running engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from rocmforge.engine.decoder import Decoder
from rocmforge.engine.inbox import Inbox
from rocmforge.engine.request import FinishReason
from rocmforge.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The KV pool, in blocks, and what prefix sharing saved, in tokens."""

    num_blocks: int
    block_size: int
    num_free: int  # evictable ones included
    num_cached: int  # with content that can be found again, in use or not
    num_hit_tokens: int  # prompt tokens found in the cache, since the start

    @property
    def utilization(self) -> float:
        """Share of the blocks in use by requests."""
        return 1.0 - self.num_free / self.num_blocks


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. Everything but the first four fields only grows."""

    healthy: bool
    num_waiting: int  # preempted requests included
    num_running: int
    cache: CacheStats
    num_steps: int
    busy_s: float  # in steps that ran something
    num_prompt_tokens: int  # of requests that have started
    num_output_tokens: int
    num_preemptions: int
    num_finished: dict[FinishReason, int]
    num_replays: int = 0  # steps that a GPU replayed from a record
    recording_problem: str | None = None  # why it records none any more


@dataclass(slots=True)
class Counters:
    """What the engine counts as it goes; written by its thread alone."""

    num_steps: int = 0
    busy_s: float = 0.0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_hit_tokens: int = 0
    num_finished: dict[FinishReason, int] = field(
        default_factory=lambda: {"stop": 0, "length": 0, "cancelled": 0, "error": 0}
    )

    def snapshot(self, scheduler: Scheduler, inbox: Inbox, decoder: Decoder) -> EngineStats:
        """Taken from another thread while the engine runs, figures may be one step apart."""
        blocks, num_running = scheduler.blocks, len(scheduler.running)
        return EngineStats(
            healthy=inbox.error is None,
            num_waiting=max(0, inbox.num_live - num_running),
            num_running=num_running,
            cache=CacheStats(
                num_blocks=blocks.num_blocks,
                block_size=blocks.block_size,
                num_free=blocks.num_free,
                num_cached=blocks.num_cached,
                num_hit_tokens=self.num_hit_tokens,
            ),
            num_steps=self.num_steps,
            busy_s=self.busy_s,
            num_prompt_tokens=self.num_prompt_tokens,
            num_output_tokens=self.num_output_tokens,
            num_preemptions=scheduler.num_preemptions,
            num_finished=dict(self.num_finished),
            num_replays=decoder.num_replays,
            recording_problem=decoder.recording_problem,
        )
