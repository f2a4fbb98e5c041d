"""Keys and values in shuffled pages, what the cache makes of them, and attention in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocmforge import _native

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
EPS = float(np.finfo(np.float32).eps)


def stored(kv_dtype: str, x: Floats) -> Doubles:
    """What comes back of x [..., n] from a cache of that type."""
    if kv_dtype == "f16":
        return x.astype(np.float16).astype(np.float64)
    if kv_dtype == "bf16":
        bits = to_bf16(x).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).astype(np.float64)
    if kv_dtype == "q8_0":
        scales, quants = to_q8_0(x)
        return (scales.astype(np.float64)[..., None] * quants).reshape(x.shape)
    assert kv_dtype == "f32"
    return x.astype(np.float64)


def to_bf16(x: Floats) -> npt.NDArray[np.uint16]:
    """Bits of the nearest bfloat16, ties to even, of values that are not NaN."""
    bits = x.view(np.uint32).astype(np.uint64)
    down = bits >> 16
    rest = bits & 0xFFFF
    up = (rest > 0x8000) | ((rest == 0x8000) & (down % 2 == 1))
    return (down + up).astype(np.uint16)


def to_q8_0(x: Floats) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int8]]:
    """Scales [..., n / 32] and values [..., n / 32, 32] of finite x [..., n]."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scales = (np.abs(blocks).max(-1) / np.float32(127)).astype(np.float16)
    inverse = np.zeros(scales.shape, np.float32)
    np.divide(np.float32(1), scales.astype(np.float32), out=inverse, where=scales > 0)
    quants = np.clip(np.rint(blocks * inverse[..., None]), -127, 127)
    return scales, quants.astype(np.int8)


@dataclass(frozen=True)
class Shape:
    group: int
    head_dim: int
    value_dim: int
    kv_heads: int = 1

    @property
    def heads(self) -> int:
        return self.group * self.kv_heads


class Sequence:
    """Random keys, values and queries of `length` positions."""

    def __init__(self, shape: Shape, length: int, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, length, shape.head_dim])
        self.shape, self.length = shape, length
        self.q = rng.standard_normal((length, shape.heads, shape.head_dim), dtype=np.float32)
        self.k = rng.standard_normal((length, shape.kv_heads, shape.head_dim), dtype=np.float32)
        self.v = rng.standard_normal((length, shape.kv_heads, shape.value_dim), dtype=np.float32)
        self.scale = float(np.float32(shape.head_dim**-0.5))


class Cache:
    """Sequences in one cache; blocks are shuffled, some stay unused and hold NaN."""

    def __init__(
        self,
        sequences: list[Sequence],
        isa: str,
        kv_dtype: str = "f32",
        block_size: int = 16,
        threads: int = 1,
        tiles: bool = False,
    ) -> None:
        shape = sequences[0].shape
        self.sequences = sequences
        used = [-(-s.length // block_size) for s in sequences]
        blocks = np.random.default_rng(1).permutation(sum(used) + 3).astype(np.int32)
        self.tables = np.full((len(sequences), max(used)), blocks[-1], np.int32)
        self.attention = _native.cpu.PagedAttention(
            num_heads=shape.heads,
            num_kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            value_dim=shape.value_dim,
            scale=sequences[0].scale,
            kv_dtype=kv_dtype,
            num_blocks=len(blocks),
            block_size=block_size,
            num_threads=threads,
            isa=isa,
            tiles=tiles,
        )
        first = 0
        for sequence, count, table in zip(sequences, used, self.tables, strict=True):
            table[:count] = blocks[first : first + count]
            first += count
            at = np.arange(sequence.length)
            slots = table[at // block_size] * block_size + at % block_size
            self.attention.store(0, sequence.k, sequence.v, slots)

    def attend(self, *chunks: range) -> list[Floats]:
        """The outputs [tokens, heads, value_dim] of a chunk of each sequence, in one step."""
        pairs = zip(self.sequences, chunks, strict=True)
        q = np.concatenate([s.q[c.start : c.stop] for s, c in pairs])
        positions = np.concatenate([np.arange(c.start, c.stop) for c in chunks])
        starts = np.cumsum([0, *map(len, chunks)])
        y = self.attention.attend(q, positions, starts, self.tables)[0]
        return np.split(y, starts[1:-1])


def attend_alone(
    sequence: Sequence, tokens: range, isa: str, kv_dtype: str = "f32", **options: int
) -> Floats:
    return Cache([sequence], isa, kv_dtype, **options).attend(tokens)[0]


def expected(sequence: Sequence, tokens: range, kv_dtype: str = "f32") -> tuple[Doubles, Doubles]:
    """Attention in float64 over what the cache holds, and how far float32 may be off.

    A query is multiplied by the scale first; a score is then a chain of head_dim FMAs, so its error
    is at most (head_dim + 2) * eps * |q| . |k|, and so is the relative error of its weight. The
    weighted mean adds a rounding a position, to the weights' sum and to the values', the exp (8
    eps), the rescalings (one a tile of 64) and the merging of ranges (4 roundings each).
    """
    k, v = stored(kv_dtype, sequence.k), stored(kv_dtype, sequence.v)
    shape = sequence.shape
    y = np.empty((len(tokens), shape.heads, shape.value_dim))
    bound = np.empty_like(y)
    for row, position in enumerate(tokens):
        for head in range(shape.heads):
            q = sequence.q[position, head].astype(np.float64) * sequence.scale
            keys = k[: position + 1, head // shape.group]
            values = v[: position + 1, head // shape.group]
            scores = keys @ q
            weights = np.exp(scores - scores.max())
            y[row, head] = weights @ values / weights.sum()
            n = position + 1
            relative = 2 * (shape.head_dim + 2) * EPS * (np.abs(keys) @ np.abs(q)).max()
            relative += (n + n / 64 + n / 256 + 16) * EPS
            bound[row, head] = relative * np.abs(values).max(0)
    return y, bound


def bfloat16(x: npt.NDArray[np.floating]) -> Doubles:
    """The nearest bfloat16 of finite values, as float64; subnormals are zero."""
    nearest = (to_bf16(x.astype(np.float32)).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.where(np.abs(nearest) < 2.0**-126, 0.0, nearest).astype(np.float64)


def expected_of_tiles(
    sequence: Sequence, tokens: range, kv_dtype: str = "f32"
) -> tuple[Doubles, Doubles]:
    """Attention in float64 over operands rounded to bfloat16, and how far the tiles may be off.

    The rounded operands are known, so of the scores only float32 sums count: head_dim additions of
    exact products, and the error of a score is that of its weight. A weight is then off by 2^-13
    (its exp) and rounded (2^-8), which the sum of weights sees as well; the rest is float32: an
    addition a position, rescalings (8 roundings a tile of 64) and the merging of ranges.
    """
    k, v = bfloat16(stored(kv_dtype, sequence.k)), bfloat16(stored(kv_dtype, sequence.v))
    shape = sequence.shape
    y = np.empty((len(tokens), shape.heads, shape.value_dim))
    bound = np.empty_like(y)
    for row, position in enumerate(tokens):
        n = position + 1
        for head in range(shape.heads):
            q = bfloat16(sequence.q[position, head] * np.float32(sequence.scale))
            keys, values = k[:n, head // shape.group], v[:n, head // shape.group]
            scores = keys @ q
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            y[row, head] = weights @ values
            relative = 2 * (shape.head_dim + 2) * EPS * (np.abs(keys) @ np.abs(q)).max()
            relative += 2.0**-13 + 2.0**-8 + (n + n / 8 + 32) * EPS
            # An error common to all weights cancels: those of y count by their distance from it.
            spread = weights @ np.abs(values - y[row, head])
            bound[row, head] = 1.05 * relative * spread + 4 * EPS * np.abs(values).max(0)
    return y, bound
