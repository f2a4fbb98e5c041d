"""Speed of the single linear kernels, per format and ISA, against the machine's read bandwidth.

One column (decode) is given in GB/s of weights streamed from memory and as a fraction of the read
bandwidth measured in the same run, just before; many columns (prefill) in Gop/s over weights that
stay in the cache, two operations for each weight and column. Quantizing the activations is not
included. Every figure is the median over the repetitions, with the slowest and the fastest.

Usage: bench_linear.py [--formats Q4_0,Q8_0] [--isas avx512] [--threads 2] [--columns 1,4,64]
                       [--activations auto|float] [--repetitions 20] [--json]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rocmforge import _native

ROW_WEIGHTS = 4096
STREAMED_BYTES = 512 << 20
CACHED_ROWS = 256
DECODE_COLUMNS = 8  # up to so many, memory is the limit
ACTIVATIONS = {1: "float", 32: "q8x32", 256: "q8x256"}


@dataclasses.dataclass
class Figure:
    format: str
    isa: str
    columns: int
    gigabytes_per_s: float
    gigaops_per_s: float
    slowest: float  # of gigaops_per_s
    fastest: float
    fraction_of_read_bandwidth: float | None


def random_weights(format_name: str, columns: int) -> np.ndarray:
    """Rows of blocks; every float16 field is between 0.007 and 0.13, as no subnormal may be."""
    _, block_weights, block_bytes = _native.FORMATS[format_name]
    row_bytes = ROW_WEIGHTS // block_weights * block_bytes
    rows = STREAMED_BYTES // row_bytes if columns <= DECODE_COLUMNS else CACHED_ROWS
    some = np.random.default_rng(0).integers(0x20, 0x30, (256, row_bytes), dtype=np.uint8)
    return np.resize(some, (rows, row_bytes))


def product(
    format_name: str, isa: str, w: np.ndarray, columns: int, activations: str
) -> Callable[[int, int], object]:
    """Computes rows [begin, end) of one product."""
    x = np.random.default_rng(1).standard_normal((columns, ROW_WEIGHTS)).astype(np.float32)
    block_weights = _native.FORMATS[format_name][1]
    if activations == "auto" and block_weights > 1:
        x = _native.cpu.quantize(ACTIVATIONS[block_weights], x)
    out = np.empty((columns, len(w)), np.float32)
    return lambda begin, end: _native.cpu.linear(
        format_name, w, x, isa, activations, (begin, end), out
    )


def times(
    pool: ThreadPoolExecutor, rows: Callable[[int, int], object], num_rows: int, tasks: int, n: int
) -> list[float]:
    """Seconds of n runs over all rows, cut into tasks; one run before them is not counted."""
    edges = np.linspace(0, num_rows, tasks + 1).astype(int).tolist()
    result = []
    for _ in range(n + 1):
        start = time.perf_counter()
        for done in [pool.submit(rows, *task) for task in itertools.pairwise(edges)]:
            done.result()
        result.append(time.perf_counter() - start)
    return result[1:]


def measure(args: argparse.Namespace) -> Iterator[Figure]:
    tasks = 1 if args.threads == 1 else 8 * args.threads
    with ThreadPoolExecutor(args.threads) as pool:
        for format_name, columns in itertools.product(
            args.formats.split(","), map(int, args.columns.split(","))
        ):
            w = random_weights(format_name, columns)
            operations = 2e-9 * len(w) * ROW_WEIGHTS * columns
            for isa in args.isas.split(","):
                limit = _native.cpu.read_bandwidth(args.threads, STREAMED_BYTES) / 1e9
                rows = product(format_name, isa, w, columns, args.activations)
                seconds = times(pool, rows, len(w), tasks, args.repetitions)
                median = statistics.median(seconds)
                gigabytes_per_s = w.nbytes / median / 1e9
                yield Figure(
                    format_name,
                    isa,
                    columns,
                    gigabytes_per_s,
                    operations / median,
                    operations / max(seconds),
                    operations / min(seconds),
                    gigabytes_per_s / limit if columns <= DECODE_COLUMNS else None,
                )


def row_of(figure: Figure) -> str:
    fraction = figure.fraction_of_read_bandwidth
    share = "" if fraction is None else f"{fraction:6.0%} of read bandwidth"
    return (
        f"{figure.format:7}{figure.isa:8}{figure.columns:4} columns "
        f"{figure.gigabytes_per_s:7.2f} GB/s {figure.gigaops_per_s:8.1f} Gop/s "
        f"({figure.slowest:.1f} to {figure.fastest:.1f}){share}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--formats", default="Q4_0,Q8_0,Q4_K,Q6_K,F16")
    parser.add_argument("--isas", default=",".join(_native.cpu.available_isas()))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--columns", default="1,64")
    parser.add_argument("--activations", choices=("auto", "float"), default="auto")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = []
    for figure in measure(args):
        figures.append(figure)
        if not args.json:
            print(row_of(figure), flush=True)
    if args.json:
        print(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1))


if __name__ == "__main__":
    main()
