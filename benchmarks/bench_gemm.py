"""Speed of products of many columns in bfloat16 tiles, against the tiles' peak in the same run.

The formats are measured in turns, with the peak in between, so that other load on the machine
meets all of them. The figure is the median of the rounds; the best one follows in brackets.
Packing the activations is included.

Usage: bench_gemm.py [--formats Q4_0,Q8_0] [--columns 512] [--threads 2] [--rounds 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

import numpy as np

from rocmforge import _native

SHAPES = ((8192, 2048), (2048, 8192), (2048, 2048))  # rows, k: those of a model of 1 B weights


def random_weights(format_name: str, rows: int, k: int) -> np.ndarray:
    """Rows of blocks; every float16 field is between 0.007 and 0.13, as no subnormal may be."""
    _, block_weights, block_bytes = _native.FORMATS[format_name]
    shape = (64, k // block_weights * block_bytes)
    some = np.random.default_rng(0).integers(0x20, 0x30, shape, dtype=np.uint8)
    return np.tile(some, (rows // 64, 1))


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Operations per second of every round, by what was measured."""
    gemm = _native.cpu.Gemm("amx", args.threads)
    rng = np.random.default_rng(1)
    columns = {
        k: rng.standard_normal((args.columns, k)).astype(np.float32) for k in {k for _, k in SHAPES}
    }
    cases = [(name, *shape) for name in args.formats.split(",") for shape in SHAPES]
    weights = {case: random_weights(*case) for case in cases}
    rates: dict[str, list[float]] = {"peak": []}
    for _ in range(args.rounds + 1):
        for name, rows, k in cases:
            out = np.empty((args.columns, rows), np.float32)
            start = time.perf_counter()
            gemm(name, weights[name, rows, k], columns[k], out=out)
            seconds = time.perf_counter() - start
            rates.setdefault(f"{name} {rows}x{k}", []).append(2 * args.columns * rows * k / seconds)
            rates["peak"].append(gemm.peak())
    return {name: rounds[len(rounds) // (args.rounds + 1) :] for name, rounds in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--formats", default=",".join(_native.FORMATS))
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rates = measure(args)
    if args.json:
        print(json.dumps(rates, indent=1))
        return
    peak = max(rates["peak"])
    for name, rounds in rates.items():
        median, best = statistics.median(rounds), max(rounds)
        print(
            f"{name:18} {median / 1e9:7.0f} Gop/s ({best / 1e9:.0f}), "
            f"{median / peak:4.0%} ({best / peak:.0%}) of the tiles' peak"
        )


if __name__ == "__main__":
    main()
