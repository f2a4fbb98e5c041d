"""Speed of matrix products, per format and level, against the machine's limits in the same run.

Few columns (decode) are given in GB/s of weights streamed from memory, with the fraction of the
read bandwidth measured just before; many columns (prefill) in Gop/s over matrices of a model of 1 B
weights, two operations for each weight and column, with the fraction of the matrix tiles' peak where
there is one. Preparing the columns is included. A figure is the median of the rounds, which the
limit takes turns with; the best follows in brackets.

Usage: bench_linear.py [--formats Q4_0,Q8_0] [--isas avx512] [--threads 2] [--columns 1,4,512]
                       [--rounds 9] [--deterministic] [--json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from rocmforge import _native

SHAPES = ((8192, 2048), (2048, 8192), (2048, 2048))  # rows, k
STREAMED_K = 2048
STREAMED_BYTES = 400 << 20
FEW_COLUMNS = 16  # up to so many, memory is the limit


def random_weights(format_name: str, rows: int, k: int) -> np.ndarray:
    """Rows of blocks; every float16 field is between 0.007 and 0.13, as no subnormal may be."""
    _, block_weights, block_bytes = _native.FORMATS[format_name]
    shape = (64, k // block_weights * block_bytes)
    some = np.random.default_rng(0).integers(0x20, 0x30, shape, dtype=np.uint8)
    return np.tile(some, (rows // 64, 1))


@dataclass
class Case:
    format: str
    isa: str
    rows: int
    k: int
    columns: int
    weight_bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)  # bytes or operations per second

    @property
    def streams(self) -> bool:
        return self.columns <= FEW_COLUMNS

    def amount(self) -> float:
        """Bytes of weights, or operations."""
        return self.weight_bytes if self.streams else 2.0 * self.rows * self.k * self.columns

    def line(self) -> str:
        unit = "GB/s" if self.streams else "Gop/s"
        rate = self.amount() / statistics.median(self.seconds)
        best = self.amount() / min(self.seconds)
        text = f"{self.format:7}{self.isa:8}{self.columns:4} columns {self.rows:6} x {self.k:<5}"
        text += f"{rate / 1e9:8.1f} {unit:5} ({best / 1e9:.1f})"
        if self.limits:
            limit = "read bandwidth" if self.streams else "tiles' peak"
            text += f" {rate / statistics.median(self.limits):5.0%} of the {limit}"
        return text


def cases(args: argparse.Namespace) -> list[Case]:
    found = []
    for name, isa, columns in itertools.product(
        args.formats.split(","), args.isas.split(","), map(int, args.columns.split(","))
    ):
        _, block_weights, block_bytes = _native.FORMATS[name]
        rows = STREAMED_BYTES // (STREAMED_K // block_weights * block_bytes) // 64 * 64
        shapes = ((rows, STREAMED_K),) if columns <= FEW_COLUMNS else SHAPES
        found += [Case(name, isa, *shape, columns) for shape in shapes]
    return found


def limit_of(case: Case, args: argparse.Namespace) -> float | None:
    if case.streams:
        return float(_native.cpu.read_bandwidth(args.threads, STREAMED_BYTES))
    return float(_native.cpu.Gemm("amx", args.threads).peak()) if case.isa == "amx" else None


def measure(case: Case, args: argparse.Namespace) -> None:
    w = random_weights(case.format, case.rows, case.k)
    case.weight_bytes = w.nbytes
    matrix = _native.cpu.Matrix(case.format, w, case.isa, args.threads, args.deterministic)
    del w
    x = np.random.default_rng(1).standard_normal((case.columns, case.k)).astype(np.float32)
    out = matrix(x)
    for _ in range(args.rounds):
        if (limit := limit_of(case, args)) is not None:
            case.limits.append(limit)
        start = time.perf_counter()
        matrix(x, out)
        case.seconds.append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--formats", default="Q4_0,Q8_0,Q4_K,Q6_K,F16")
    parser.add_argument("--isas", default=_native.cpu.isa())
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--columns", default="1,4,8,16,512")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--deterministic", action="store_true", help="no matrix tiles")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    measured = []
    for case in cases(args):
        measure(case, args)
        measured.append(case)
        if not args.json:
            print(case.line(), flush=True)
    if args.json:
        print(json.dumps([asdict(case) for case in measured], indent=1))


if __name__ == "__main__":
    main()
