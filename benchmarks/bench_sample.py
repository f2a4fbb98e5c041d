"""Speed of drawing a token from one row of logits, per ISA, parameters and shape of the row.

Microseconds a row on one thread, median of the repetitions with their spread. A row of 150,000
logits is 600 kB, so the best possible is its read time: the greedy draw is little else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from types import SimpleNamespace

import numpy as np

from rocmforge import _native

PARAMETERS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "top-k 40, top-p 0.95": {"top_k": 40, "top_p": 0.95},
    "top-k 1000, top-p 0.95": {"top_k": 1000, "top_p": 0.95},
    "top-p 0.95": {"top_p": 0.95},
    "min-p 0.05": {"min_p": 0.05},
    "no limit": {},
    "top-k 40, 20 logprobs": {"top_k": 40, "num_logprobs": 20},
}


def logits(shape: str, rows: int, vocab: int) -> np.ndarray:
    """peaked: a few hundred likely tokens, as a language model gives; flat: all about equal."""
    rng = np.random.default_rng(0)
    if shape == "flat":
        return rng.normal(0, 0.1, (rows, vocab)).astype(np.float32)
    x = rng.normal(0, 2.5, (rows, vocab)).astype(np.float32)
    for row in x:
        row[rng.choice(vocab, 200, replace=False)] = 12 + rng.exponential(2, 200)
    return x


def batch(rows: int, changes: dict[str, float]) -> SimpleNamespace:
    values = {
        "temperature": (np.float32, 0.8),
        "top_k": (np.int32, 0),
        "top_p": (np.float32, 1),
        "min_p": (np.float32, 0),
        "repetition_penalty": (np.float32, 1),
        "seed": (np.uint64, 1),
        "num_logprobs": (np.int32, -1),
        "mask_row": (np.int32, -1),
    }
    arrays = {n: np.full(rows, changes.get(n, v), t) for n, (t, v) in values.items()}
    return SimpleNamespace(
        **arrays,
        position=np.arange(rows, dtype=np.int64),
        adjust_offsets=np.zeros(rows + 1, np.int32),
        adjust_ids=np.empty(0, np.int32),
        adjust_bias=np.empty(0, np.float32),
        adjust_repeated=np.empty(0, np.uint8),
        adjust_subtract=np.empty(0, np.float32),
        masks=np.empty((0, 1), np.uint32),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", type=int, default=150_000)
    parser.add_argument("--rows", type=int, default=8, help="of a call")
    parser.add_argument("-r", type=int, default=20, help="repetitions")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = []
    for isa in _native.cpu.available_isas():
        sampler = _native.cpu.Sampler(args.vocab, isa)
        for shape in ("peaked", "flat"):
            x = logits(shape, args.rows, args.vocab)
            for name, changes in PARAMETERS.items():
                sampling = batch(args.rows, changes)
                times = []
                for _ in range(args.r + 1):
                    start = time.perf_counter()
                    sampler.sample(x, sampling)
                    times.append((time.perf_counter() - start) / args.rows * 1e6)
                times = times[1:]
                result = {
                    "isa": isa,
                    "logits": shape,
                    "parameters": name,
                    "us_per_row": round(statistics.median(times), 1),
                    "min": round(min(times), 1),
                    "max": round(max(times), 1),
                }
                results.append(result)
                if not args.json:
                    print(
                        f"{isa:7} {shape:7} {name:24} {result['us_per_row']:8.1f} us"
                        f"  ({result['min']:.1f} to {result['max']:.1f})"
                    )
    if args.json:
        print(json.dumps({"vocab": args.vocab, "rows": args.rows, "results": results}))


if __name__ == "__main__":
    main()
