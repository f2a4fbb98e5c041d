"""Attention over shuffled pages against float64: single tokens in splits, prompts in tiles."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import THREADS, WAVES, Memory, ceil_div, count, is_built, launch, unset
from paged_attention import Sequence, Shape, expected, stored
from paged_cache import KV_TYPES, PagedCache

GROUPS = (1, 2, 4, 8)
DIMS = (64, 128, 256)
TOO_LARGE_FOR_GFX11 = ("bf16_d128", "q8_0_d128")  # attend_mma.hip


class Step:
    """Chunks of sequences over one cache whose unused blocks and slots hold NaN."""

    def __init__(
        self,
        chunks: list[tuple[Sequence, range]],
        kv_type: str,
        wave: int,
        block_size: int = 16,
        seed: int = 1,
    ) -> None:
        self.chunks, self.kv_type, self.wave = chunks, kv_type, wave
        self.shape = shape = chunks[0][0].shape
        lengths = [tokens.stop for _, tokens in chunks]
        used = [ceil_div(n, block_size) for n in lengths]
        blocks = np.random.default_rng(seed).permutation(sum(used) + 3).astype(np.int32)
        self.cache = PagedCache(
            kv_type, shape.kv_heads, shape.head_dim, shape.value_dim, block_size, len(blocks)
        )
        self.tables = np.full((len(chunks), max(used) + 1), -1, np.int32)
        first = 0
        for (sequence, tokens), blocks_used, table in zip(chunks, used, self.tables, strict=True):
            table[:blocks_used] = blocks[first : first + blocks_used]
            first += blocks_used
            at = np.arange(tokens.stop)
            slots = table[at // block_size] * block_size + at % block_size
            if len(at):
                stored = slots.astype(np.int32)
                self.cache.store(sequence.k[at], sequence.v[at], stored, wave)
        self.starts = np.cumsum([0, *(len(tokens) for _, tokens in chunks)]).astype(np.int32)
        self.lengths = np.array(lengths, np.int32)

    def _fields(self, y: Memory) -> dict[str, object]:
        shape, tokens = self.shape, int(self.starts[-1])
        size = shape.heads * shape.head_dim
        q = np.full((tokens + 1, size + 3), np.nan, np.float32)
        for (sequence, chunk), first in zip(self.chunks, self.starts[:-1], strict=True):
            q[first : first + len(chunk), :size] = sequence.q[chunk.start : chunk.stop].reshape(
                len(chunk), size
            )
        return {
            "y": y,
            "q": Memory(q),
            "cache": self.cache.memory,
            "query_start_loc": Memory(self.starts),
            "seq_lens": Memory(self.lengths),
            "block_tables": Memory(self.tables),
            "num_seqs": count(len(self.chunks)),
            "q_stride": size + 3,
            "max_blocks": self.tables.shape[1],
            "layout": self.cache.layout,
            "heads": shape.heads,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "value_dim": shape.value_dim,
            "block_size": self.cache.block_size,
            "scale": self.chunks[0][0].scale,
        }

    def decode(self, splits: int = 1, group: int = 4) -> np.ndarray:
        shape, tokens = self.shape, int(self.starts[-1])
        y = unset(tokens + 1, shape.heads, shape.value_dim)
        fields = self._fields(y) | {
            "partial": unset(tokens, shape.heads, splits, shape.value_dim),
            "partial_ml": unset(tokens, shape.heads, splits, 2),
            "splits": splits,
        }
        blocks = shape.kv_heads * ceil_div(shape.group, group)
        variant = f"{self.kv_type}_g{group}"
        launch("attend_decode", self.wave, (tokens + 1, blocks, splits), variant, **fields)
        if splits > 1:
            launch("attend_combine", self.wave, (tokens + 1, shape.heads), **fields)
        assert np.isnan(y.array[tokens]).all()
        return y.array[:tokens]

    def prefill(self) -> np.ndarray:
        shape, tokens = self.shape, int(self.starts[-1])
        y = unset(tokens + 1, shape.heads, shape.value_dim)
        dim = next(d for d in DIMS if d >= max(shape.head_dim, shape.value_dim))
        grid = (tokens // 16 + len(self.chunks), shape.heads)
        launch("attend_prefill", self.wave, grid, f"{self.kv_type}_d{dim}", **self._fields(y))
        assert np.isnan(y.array[tokens]).all()
        return y.array[:tokens]

    def matrix_cores(self) -> np.ndarray:
        shape, tokens = self.shape, int(self.starts[-1])
        y = unset(tokens + 1, shape.heads, shape.value_dim)
        dim = next(d for d in DIMS if d >= max(shape.head_dim, shape.value_dim))
        grid = (tokens // (THREADS // self.wave * 16) + len(self.chunks), shape.heads)
        variant = f"{self.kv_type}_d{dim}"
        if variant in TOO_LARGE_FOR_GFX11 and not is_built(f"rf_attend_mma_{variant}_w{self.wave}"):
            pytest.skip("gfx11 does not have this kernel")
        launch("attend_mma", self.wave, grid, variant, **self._fields(y))
        assert np.isnan(y.array[tokens]).all()
        return y.array[:tokens]

    def check_rounded(self, y: np.ndarray) -> None:
        """Queries and weights rounded to 2^-11 (bf16: 2^-8): scores move by that part of
        sum |q k| scale, weights by what the scores do and their own rounding."""
        unit = 2.0**-8 if self.kv_type == "bf16" else 2.0**-11
        for (sequence, chunk), first in zip(self.chunks, self.starts[:-1], strict=True):
            shape = sequence.shape
            exact, bound = expected(sequence, chunk, self.kv_type)
            k = np.repeat(stored(self.kv_type, sequence.k), shape.group, axis=1)
            v = np.repeat(stored(self.kv_type, sequence.v), shape.group, axis=1)
            for i, at in enumerate(chunk):
                q, seen = sequence.q[at].astype(np.float64), slice(at + 1)
                scores = np.einsum("hd,phd->hp", q, k[seen]) * sequence.scale
                # Of q8_0 keys and values are rounded too.
                moved = np.einsum("hd,phd->hp", np.abs(q), np.abs(k[seen])) * sequence.scale
                shift = np.expm1(2 * 2.02 * unit * moved.max(-1)) + 2.02 * unit
                weights = np.exp(scores - scores.max(-1, keepdims=True))
                weights /= weights.sum(-1, keepdims=True)
                size = np.einsum("hp,phd->hd", weights, np.abs(v[seen]))
                # Weights below f16's normal numbers are rounded to multiples of 2^-24.
                lost = 2.0**-24 * np.abs(v[seen]).sum(0)
                error = np.abs(y[first + i] - exact[i])
                assert np.all(error <= bound[i] + shift[:, None] * size + lost)

    def check(self, y: np.ndarray) -> None:
        for (sequence, chunk), first in zip(self.chunks, self.starts[:-1], strict=True):
            exact, bound = expected(sequence, chunk, self.kv_type)
            assert np.all(np.abs(y[first : first + len(chunk)] - exact) <= bound)


def last(shape: Shape, *lengths: int) -> list[tuple[Sequence, range]]:
    return [(Sequence(shape, n, seed=n), range(n - 1, n)) for n in lengths]


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        (Shape(1, 64, 64), 16),
        (Shape(4, 32, 32, kv_heads=2), 5),
        (Shape(3, 96, 160), 64),
        (Shape(7, 256, 256), 16),
        (Shape(13, 32, 128), 1),
    ],
)
def test_single_tokens_match_float64(
    shape: Shape, block_size: int, kv_type: str, wave: int
) -> None:
    step = Step(last(shape, 1, 63, 64, 130), kv_type, wave, block_size)
    for splits in (1, 3):
        for group in GROUPS:
            step.check(step.decode(splits, group))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        (Shape(1, 64, 64), 16),
        (Shape(3, 32, 96, kv_heads=2), 5),
        (Shape(2, 256, 160), 64),
        (Shape(1, 32, 256), 16),
    ],
)
def test_prompts_match_float64(shape: Shape, block_size: int, kv_type: str, wave: int) -> None:
    sequences = [Sequence(shape, n, seed=n) for n in (40, 1, 17, 70)]
    ranges = [range(40), range(1), range(5, 17), range(69, 70)]
    step = Step(list(zip(sequences, ranges, strict=True)), kv_type, wave, block_size)
    step.check(step.prefill())


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES[1:])
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        (Shape(1, 64, 64), 16),
        (Shape(3, 32, 96, kv_heads=2), 5),
        (Shape(2, 128, 64), 64),
    ],
)
def test_prompts_on_matrix_cores_match_float64(
    shape: Shape, block_size: int, kv_type: str, wave: int
) -> None:
    sequences = [Sequence(shape, n, seed=n) for n in (140, 1, 17, 70)]
    ranges = [range(140), range(1), range(5, 17), range(69, 70)]
    step = Step(list(zip(sequences, ranges, strict=True)), kv_type, wave, block_size)
    step.check_rounded(step.matrix_cores())


@pytest.mark.parametrize("wave", WAVES)
def test_head_sizes_need_not_fill_tiles_of_matrix_cores(wave: int) -> None:
    for shape in (Shape(2, 4, 8), Shape(1, 100, 20), Shape(2, 80, 124)):
        step = Step([(Sequence(shape, 50), range(40, 50))], "f16", wave)
        step.check_rounded(step.matrix_cores())


@pytest.mark.parametrize("wave", WAVES)
def test_head_sizes_need_not_fill_lanes(wave: int) -> None:
    for shape in (Shape(2, 4, 8), Shape(1, 100, 20), Shape(2, 80, 132)):
        sequence = Sequence(shape, 50)
        step = Step([(sequence, range(40, 50))], "f16", wave)
        step.check(step.decode(2, 2))
        step.check(step.prefill())


@pytest.mark.parametrize("wave", WAVES)
def test_more_splits_than_tiles_and_many_positions_match(wave: int) -> None:
    step = Step(last(Shape(2, 32, 32), 5, 700), "f16", wave)
    for splits in (2, 7, 16):
        step.check(step.decode(splits, 2))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_neighbours_pages_and_chunks_do_not_change_a_bit(kv_type: str, wave: int) -> None:
    shape = Shape(2, 64, 32, kv_heads=2)
    a, b = Sequence(shape, 50), Sequence(shape, 33, seed=9)
    alone = Step([(a, range(20, 50))], kv_type, wave)
    together = Step([(b, range(33)), (a, range(20, 50))], kv_type, wave, block_size=7, seed=5)
    assert np.array_equal(together.prefill()[33:], alone.prefill())
    assert np.array_equal(together.decode(3)[33:], alone.decode(3))
    if kv_type != "f32":
        assert np.array_equal(together.matrix_cores()[33:], alone.matrix_cores())
    tail = Step([(a, range(43, 50))], kv_type, wave)
    assert np.array_equal(tail.prefill(), alone.prefill()[23:])
    for group in GROUPS:
        assert np.array_equal(alone.decode(1, group), alone.decode(1, 1))


@pytest.mark.parametrize("wave", WAVES)
def test_sequences_without_tokens_are_passed_over(wave: int) -> None:
    shape = Shape(2, 32, 32)
    empty, a = Sequence(shape, 8), Sequence(shape, 20)
    chunks = [(empty, range(0)), (a, range(18, 20)), (empty, range(8, 8)), (empty, range(0))]
    step = Step(chunks, "f32", wave)
    step.check(step.decode(2, 2))
    step.check(step.prefill())
    narrow = Step(chunks, "f16", wave)
    narrow.check_rounded(narrow.matrix_cores())
    nothing = Step([(empty, range(0)), (empty, range(0))], "f32", wave)
    assert nothing.decode(2, 1).size == nothing.prefill().size == 0


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_token_is_untouched_by_bad_values_after_it(bad: float, wave: int) -> None:
    shape = Shape(2, 32, 64)
    clean, poisoned = Sequence(shape, 40), Sequence(shape, 40)
    poisoned.k[36:], poisoned.v[36:] = bad, bad
    for run in (Step.prefill, Step.matrix_cores, Step.decode):
        y = run(Step([(poisoned, range(30, 40))], "f16", wave))
        assert np.array_equal(y[:6], run(Step([(clean, range(30, 36))], "f16", wave)))
        assert np.isnan(y[6:]).any(axis=-1).all()


@pytest.mark.parametrize("wave", WAVES)
def test_scores_far_apart_pick_one_position_without_overflow(wave: int) -> None:
    sequence = Sequence(Shape(1, 32, 32), 100)
    sequence.q[:] = sequence.k[37] * np.float32(1000)
    step = Step([(sequence, range(90, 100))], "f32", wave)
    for y in (step.decode(2), step.prefill()):
        assert np.array_equal(y[:, 0], np.repeat(sequence.v[37], 10, axis=0))
