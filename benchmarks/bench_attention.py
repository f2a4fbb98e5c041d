"""Speed of attention over the paged cache, against the machine's read bandwidth.

Decode is one token of one sequence, in GB/s of keys and values and as a fraction of the bandwidth
at which a buffer of the same size is read in the same run. Prefill is a prompt in one step, in ms a
layer and Gop/s (four operations per visible position, query head and element). All layers are
read in turn, so that no cache holds them. Rounds take the configurations in turn, so that a
disturbed minute hits all; the best of the rounds is reported beside the median, as other load on a
shared machine only ever subtracts. Where the level has matrix tiles, prompts are attended both by
them (in bfloat16, the default mode) and by the kernels of one token (float32, deterministic mode).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np

from rocmforge import _native

BLOCK_SIZE = 16
PASSES = 5


@dataclass(frozen=True)
class Shape:
    kv_heads: int
    group: int
    head_dim: int


class Case:
    """A sequence of `positions`, of which the last `tokens` are queries."""

    def __init__(
        self,
        shape: Shape,
        kv_dtype: str,
        isa: str,
        threads: int,
        positions: int,
        *,
        tokens: int,
        layers: int,
        shuffled: bool = False,
        tiles: bool = False,
    ) -> None:
        self.shape, self.positions = shape, positions
        self.tokens, self.layers = tokens, layers
        num_blocks = -(-positions // BLOCK_SIZE)
        rng = np.random.default_rng(0)
        order = rng.permutation if shuffled else np.arange
        table = order(num_blocks).astype(np.int32)
        self.attention = _native.cpu.PagedAttention(
            num_heads=shape.kv_heads * shape.group,
            num_kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            value_dim=shape.head_dim,
            scale=shape.head_dim**-0.5,
            kv_dtype=kv_dtype,
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            num_layers=self.layers,
            num_threads=threads,
            isa=isa,
            tiles=tiles,
        )
        at = np.arange(positions)
        slots = table[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE
        size = (2, positions, shape.kv_heads, shape.head_dim)
        k, v = rng.standard_normal(size, dtype=np.float32)
        for layer in range(self.layers):
            self.attention.store(layer, k, v, slots)
        size = (self.tokens, shape.kv_heads * shape.group, shape.head_dim)
        self.arguments = (
            rng.standard_normal(size, dtype=np.float32),
            np.arange(positions - self.tokens, positions, dtype=np.int32),
            np.array([0, self.tokens], np.int32),
            table[None],
        )

    def seconds(self) -> float:
        """Best of PASSES, as read_bandwidth() is the best of as many."""
        times = []
        for _ in range(PASSES):
            start = time.perf_counter()
            self.attention.attend(*self.arguments)
            times.append(time.perf_counter() - start)
        return min(times)

    @property
    def operations(self) -> int:
        visible = sum(range(self.positions - self.tokens + 1, self.positions + 1))
        heads = self.shape.kv_heads * self.shape.group
        return 4 * visible * heads * self.shape.head_dim * self.layers


def decode(arguments: argparse.Namespace, shape: Shape, kv_dtype: str, isa: str) -> None:
    for threads in arguments.threads:
        case = Case(
            shape,
            kv_dtype,
            isa,
            threads,
            arguments.context,
            tokens=1,
            layers=arguments.layers,
            shuffled=arguments.shuffled,
        )
        num_bytes = case.attention.nbytes
        bandwidth, times = [], []
        for _ in range(arguments.rounds):
            bandwidth.append(_native.cpu.read_bandwidth(threads, num_bytes))
            times.append(case.seconds())
        rates = [num_bytes / t for t in times]
        print(
            f"decode  {kv_dtype:5} {isa:7} {threads} threads, {arguments.context} positions: "
            f"best {max(rates) / 1e9:5.1f} median {statistics.median(rates) / 1e9:5.1f} GB/s, "
            f"read {max(bandwidth) / 1e9:5.1f} {statistics.median(bandwidth) / 1e9:5.1f}: "
            f"{max(rates) / max(bandwidth):.0%} "
            f"{statistics.median(rates) / statistics.median(bandwidth):.0%}"
        )


def prefill(arguments: argparse.Namespace, shape: Shape, kv_dtype: str, isa: str) -> None:
    kinds = [
        (threads, tokens, tiles)
        for threads in arguments.threads
        for tokens in arguments.prompts
        for tiles in ((False, True) if isa == "amx" else (False,))
    ]
    cases = [
        Case(shape, kv_dtype, isa, threads, tokens, tokens=tokens, layers=2, tiles=tiles)
        for threads, tokens, tiles in kinds
    ]
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(arguments.rounds):
        for case, seconds in zip(cases, times, strict=True):
            seconds.append(case.seconds())
    for (threads, tokens, tiles), case, seconds in zip(kinds, cases, times, strict=True):
        best, median = min(seconds), statistics.median(seconds)
        print(
            f"prefill {kv_dtype:5} {isa:7} {threads} threads, {tokens} tokens, "
            f"{'bfloat16' if tiles else 'float32'}: best {best / case.layers * 1e3:.2f} median {median / case.layers * 1e3:.2f} ms a "
            f"layer, {case.operations / best / 1e9:.0f} {case.operations / median / 1e9:.0f} Gop/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kv-dtypes", nargs="+", default=["f16"])
    parser.add_argument("--isas", nargs="+", default=[_native.cpu.isa()])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--shuffled", action="store_true", help="blocks of 16 in random order")
    parser.add_argument("--prompts", nargs="+", type=int, default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    arguments = parser.parse_args()
    shape = Shape(arguments.kv_heads, arguments.group, arguments.head_dim)
    for isa in arguments.isas:
        for kv_dtype in arguments.kv_dtypes:
            decode(arguments, shape, kv_dtype, isa)
            prefill(arguments, shape, kv_dtype, isa)


if __name__ == "__main__":
    main()
