"""Fused attention of single tokens: what goes into the cache, and what comes out, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import WAVES, Memory, ceil_div, launch, unset
from paged_attention import EPS, stored
from paged_cache import KV_TYPES, PagedCache
from quantized import quantize, row_bytes

NORM_EPS = 1e-5


class Tokens:
    """One new token of each of several sequences over a cache whose other slots hold NaN."""

    def __init__(
        self,
        lengths: list[int],
        kv_type: str,
        wave: int,
        heads: int,
        kv_heads: int,
        dim: int,
        block_size: int = 16,
    ) -> None:
        self.rng = rng = np.random.default_rng([*lengths, dim])
        self.lengths, self.kv_type, self.wave = lengths, kv_type, wave
        self.heads, self.kv_heads, self.dim = heads, kv_heads, dim
        used = [ceil_div(n, block_size) for n in lengths]
        blocks = rng.permutation(sum(used) + 2).astype(np.int32)
        self.cache = PagedCache(kv_type, kv_heads, dim, dim, block_size, len(blocks))
        self.tables = np.full((len(lengths), max(used) + 1), -1, np.int32)
        self.slots: list[np.ndarray] = []
        for s, n in enumerate(lengths):
            first = sum(used[:s])
            self.tables[s, : used[s]] = blocks[first : first + used[s]]
            at = np.arange(n)
            self.slots.append(self.tables[s][at // block_size] * block_size + at % block_size)
            if n > 1:
                k, v = (
                    rng.standard_normal((n - 1, kv_heads, dim), dtype=np.float32) for _ in range(2)
                )
                self.cache.store(k, v, self.slots[s][:-1].astype(np.int32), wave)
        width = (heads + 2 * kv_heads) * dim
        self.qkv = rng.standard_normal((len(lengths), width), dtype=np.float32)
        self.norms = rng.uniform(0.5, 1.5, (2, dim)).astype(np.float32)
        self.scale = float(np.float32(dim**-0.5))

    def run(
        self,
        splits: int,
        group: int,
        half: int,
        *,
        interleaved: bool,
        normed: bool,
        write: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Floats and quantized rows."""
        tokens, width = len(self.lengths), self.heads * self.dim
        angles = self.rng.uniform(-3, 3, (tokens, max(half, 4)))
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        y = unset(tokens, width)
        quantized = unset(tokens, row_bytes(width), dtype=np.uint8)
        blocks = self.kv_heads * ceil_div(self.heads // self.kv_heads, group)
        arrivals = Memory(np.zeros(tokens * blocks, np.uint32))
        slots = [int(s[-1]) if write and len(s) else -1 for s in self.slots]
        q_norm, k_norm = (Memory(n) if normed else None for n in self.norms)
        launch(
            "step_attend",
            self.wave,
            (tokens, blocks, splits),
            f"{self.kv_type}_d{self.dim}_g{group}",
            y=y,
            quantized=quantized,
            partial=unset(tokens, self.heads, splits, self.dim),
            partial_ml=unset(tokens, self.heads, splits, 2),
            arrivals=arrivals,
            qkv=Memory(self.qkv),
            q_norm=q_norm,
            k_norm=k_norm,
            cos=Memory(self.cos),
            sin=Memory(self.sin),
            cache=self.cache.memory,
            slot_mapping=Memory(np.array(slots, np.int32)),
            seq_lens=Memory(np.array(self.lengths, np.int32)),
            block_tables=Memory(self.tables),
            max_blocks=self.tables.shape[1],
            layout=self.cache.layout,
            heads=self.heads,
            kv_heads=self.kv_heads,
            half=half,
            interleaved=interleaved,
            block_size=self.cache.block_size,
            splits=splits,
            eps=NORM_EPS,
            scale=self.scale,
        )
        assert not arrivals.array.any()
        self.half, self.interleaved, self.normed = half, interleaved, normed
        return y.array, quantized.array

    def prepared(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, keys and values of token t in float64: norms and rotation."""
        rows = self.qkv[t].astype(np.float64).reshape(-1, self.dim)
        q, k = rows[: self.heads], rows[self.heads : self.heads + self.kv_heads]
        if self.normed:
            q, k = (
                x / np.sqrt((x**2).mean(-1, keepdims=True) + NORM_EPS) * weight
                for x, weight in zip((q, k), self.norms, strict=True)
            )
        pairs = np.arange(self.half)
        if self.interleaved:
            first, second = 2 * pairs, 2 * pairs + 1
        else:
            first, second = pairs, pairs + self.half
        cos, sin = self.cos[t, : self.half], self.sin[t, : self.half]
        rotated = []
        for x in (q.copy(), k.copy()):
            u, v = x[:, first].copy(), x[:, second].copy()
            x[:, first], x[:, second] = u * cos - v * sin, u * sin + v * cos
            rotated.append(x)
        return rotated[0], rotated[1], rows[self.heads + self.kv_heads :]

    def check(self, y: np.ndarray) -> None:
        keys, values = self.cache.rows()
        for t, n in enumerate(self.lengths):
            if n == 0:
                assert (y[t] == 0).all()
                continue
            q, k, v = self.prepared(t)
            at = self.slots[t]
            self.check_stored(keys[at[-1]], k)
            self.check_stored(values[at[-1]], v)
            for head in range(self.heads):
                kv_head = head // (self.heads // self.kv_heads)
                query = q[head] * self.scale
                scores = keys[at, kv_head] @ query
                weights = np.exp(scores - scores.max())
                exact = weights @ values[at, kv_head] / weights.sum()
                products = np.abs(keys[at, kv_head]) @ np.abs(query)
                relative = 2 * (self.dim + 24) * EPS * products.max() + (n + 64) * EPS
                bound = relative * np.abs(values[at, kv_head]).max(0)
                got = y[t, head * self.dim : (head + 1) * self.dim]
                assert np.all(np.abs(got - exact) <= bound)

    def check_stored(self, got: np.ndarray, exact: np.ndarray) -> None:
        """Float32 may fall on the other side of where the cache rounds."""
        near = stored(self.kv_type, exact.astype(np.float32))
        step = {"f32": 2.0**-20, "f16": 2.0**-10, "bf16": 2.0**-7, "q8_0": 2.0**-6}[self.kv_type]
        exact_or_shared = self.kv_type in ("f32", "q8_0")
        size = np.abs(exact).max() if exact_or_shared else np.abs(exact) + 1e-3
        assert np.all(np.abs(got - near) <= step * size)
        assert np.mean(got != near) < 0.1 or self.kv_type == "f32"


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("dim", [64, 128])
def test_single_tokens_match_float64(dim: int, kv_type: str, wave: int) -> None:
    heads, kv_heads = (7, 1) if dim == 64 else (4, 2)
    for splits, group, half, interleaved, normed in (
        (1, 4, dim // 2, False, True),
        (4, 2, dim // 2, True, False),
        (3, 1, dim // 4, True, True),
        (2, 4, 0, False, False),
        (32, 4, dim // 2, False, False),
        (11, 2, 0, False, False),
    ):
        tokens = Tokens([1, 150, 33, 0], kv_type, wave, heads, kv_heads, dim)
        y, quantized = tokens.run(splits, group, half, interleaved=interleaved, normed=normed)
        tokens.check(y)
        assert np.array_equal(quantized, quantize(y))


@pytest.mark.parametrize("wave", WAVES)
def test_a_token_without_a_slot_reads_what_the_cache_has(wave: int) -> None:
    tokens = Tokens([40], "f16", wave, 4, 1, 64)
    wanted, _ = tokens.run(2, 4, 0, interleaved=False, normed=False)
    before = tokens.cache.memory.array.copy()
    tokens.qkv[:, 4 * 64 :] = np.nan
    got, _ = tokens.run(2, 4, 0, interleaved=False, normed=False, write=False)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)  # summed in another order
    assert np.array_equal(tokens.cache.memory.array, before)


@pytest.mark.parametrize("wave", WAVES)
def test_a_token_gets_the_same_bits_whoever_is_beside_it(wave: int) -> None:
    tokens = Tokens([70, 20, 130], "f16", wave, 8, 2, 64, block_size=5)
    together, _ = tokens.run(2, 4, 0, interleaved=False, normed=True)
    for t in range(3):
        alone = Tokens([70, 20, 130], "f16", wave, 8, 2, 64, block_size=5)
        alone.lengths, alone.tables = alone.lengths[t : t + 1], alone.tables[t : t + 1]
        alone.slots, alone.qkv = alone.slots[t : t + 1], alone.qkv[t : t + 1].copy()
        y, _ = alone.run(2, 4, 0, interleaved=False, normed=True)
        assert np.array_equal(y[0], together[t])
