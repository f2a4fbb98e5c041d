"""Clients that stream one completion after another from a server."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.streams import Address, Stream, note_completion, stream_of
from side_by_side.statistics import quantile

# Of prompts: what any vocabulary has, without the control tokens that begin or end many.
TOKEN_IDS = range(300, 1000)
OWN_TOKENS = 8


@dataclass(frozen=True)
class Load:
    """`requests` completions in all, or one a client if that is more.

    The prompts are token ids: `prefix_tokens` that all share and a few of their own, drawn from
    `seed`, so that every server gets the same and one that has seen a prefix can be given another.
    """

    concurrency: int
    requests: int
    prefix_tokens: int
    max_tokens: int
    seed: int

    def bodies(self) -> list[dict[str, Any]]:
        drawn = random.Random(self.seed)
        prefix = drawn.choices(TOKEN_IDS, k=self.prefix_tokens)
        settings = {
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return [
            {"prompt": prefix + drawn.choices(TOKEN_IDS, k=OWN_TOKENS), **settings}
            for _ in range(max(self.requests, self.concurrency))
        ]


async def measure(
    address: Address, load: Load, key: str = "", pids: list[int] | None = None
) -> Any:
    """Rates and latencies; with the server's processes their CPU time as well.

    Raises StreamError for an answer that is not a stream of all its tokens.
    """
    bodies = load.bodies()
    waiting = iter(bodies)
    notes = []

    async def client() -> None:
        for body in waiting:
            notes.append(await note_completion(address, body, key))

    used, started_at = cpu_seconds(pids or []), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(load.concurrency)))
    wall_s = time.perf_counter() - started_at
    used = cpu_seconds(pids or []) - used
    row = summary([stream_of(one) for one in notes], wall_s)
    if pids:
        row["server_cpu_s_per_token"] = used / row["tokens"]
    return {"concurrency": load.concurrency, **row}


def summary(streams: list[Stream], wall_s: float) -> dict[str, Any]:
    num_tokens = sum(stream.num_tokens for stream in streams)
    firsts = [stream.events_at[0] for stream in streams if stream.events_at]
    gaps = list(itertools.chain.from_iterable(stream.gaps for stream in streams))
    return {
        "requests": len(streams),
        "tokens": num_tokens,
        "wall_s": wall_s,
        "tokens_per_s": num_tokens / wall_s,
        "ttft_p50_s": quantile(firsts, 0.5),
        "ttft_p99_s": quantile(firsts, 0.99),
        "itl_p50_s": quantile(gaps, 0.5),
        "itl_p99_s": quantile(gaps, 0.99),
    }


def cpu_seconds(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
