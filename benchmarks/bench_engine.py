"""What the engine adds to a step: scheduling, batch assembly, sampling policy, events.

Microseconds of this thread a step, over a decoder that does nothing, median and 99th percentile.
Steps in which sequences fill a block cost more: the block's digest is computed and published.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from rocmforge.engine.batch import Batch
from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Submit
from rocmforge.engine.sampling import SamplingBatch, SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig

MAX_NUM_SEQS = 64


class IdleOutput:
    top_ids = None
    top_logprobs = None

    def __init__(self, rows: int) -> None:
        self.token_ids = np.full(rows, 7, np.int32)
        self.logprobs = np.zeros(rows, np.float32)


class IdleDecoder:
    """Draws token 7 from every row."""

    vocab_size, hidden_size, block_size = 32_000, 8, 16
    num_blocks = MAX_NUM_SEQS * 512
    max_num_tokens, max_num_seqs, max_model_len = 4096, MAX_NUM_SEQS, 8192

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self._outputs = [IdleOutput(rows) for rows in range(MAX_NUM_SEQS + 1)]
        self._rows: dict[int, int] = {}
        self._last = 0

    def enqueue(self, batch: Batch, sampling: SamplingBatch | None) -> int:  # noqa: ARG002
        self._last += 1
        self._rows[self._last] = len(batch.logit_rows)
        return self._last

    def collect(self, handle: int) -> IdleOutput:
        return self._outputs[self._rows.pop(handle)]

    def logits(self, handle: int) -> np.ndarray:
        raise NotImplementedError(handle)

    def hidden(self, handle: int) -> np.ndarray:
        raise NotImplementedError(handle)


def step_times(num_seqs: int, context: int, steps: int, lookahead: int) -> list[float]:
    """Microseconds of `steps` decoding steps of `num_seqs` sequences of `context` tokens."""
    config = SchedulerConfig(IdleDecoder.max_num_tokens, MAX_NUM_SEQS)
    engine = Engine(IdleDecoder(lookahead), config, lambda events: None)  # noqa: ARG005
    rng = np.random.default_rng(0)
    params = SamplingParams(max_tokens=4096)
    for i in range(num_seqs):
        prompt = rng.integers(0, IdleDecoder.vocab_size, context + i % 16).tolist()
        engine.submit(Submit(i, prompt, params))
    while any(r.num_output_tokens < 2 for r in engine.scheduler.running) or (
        len(engine.scheduler.running) < num_seqs
    ):
        engine.step()
    times = []
    for _ in range(steps):
        start = time.thread_time()
        engine.step()
        times.append((time.thread_time() - start) * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for lookahead in (0, 1):
        for num_seqs in (1, 16, 64):
            for context in (100, 2000):
                times = step_times(num_seqs, context, arguments.steps, lookahead)
                row = {
                    "lookahead": lookahead,
                    "num_seqs": num_seqs,
                    "context": context,
                    "median_us": round(statistics.median(times), 1),
                    "p99_us": round(statistics.quantiles(times, n=100)[98], 1),
                }
                results.append(row)
                if not arguments.json:
                    print("  ".join(f"{name} {value}" for name, value in row.items()))
    if arguments.json:
        print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
