"""Rotary angles, the rotation, and what is stored in the paged cache."""

from __future__ import annotations

import numpy as np
import pytest
from host_kernels import THREADS, WAVES, Memory, ceil_div, count, launch, unset
from linear_cases import UNIT_ROUNDOFF
from paged_attention import stored
from paged_cache import KV_TYPES, PagedCache


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("half", [1, 32, 300])
def test_angles_are_exact_at_any_position(half: int, wave: int) -> None:
    inv_freq = (10000.0 ** (-np.arange(half) / half)).astype(np.float32)
    positions = np.array([0, 1, 2, 3, 17, 4095, 131071, 2**24 + 1, 2**31 - 1, 5], np.int32)
    cos, sin = unset(10, half), unset(10, half)
    launch(
        "rope_angles",
        wave,
        (10, ceil_div(half, THREADS)),
        cos=cos,
        sin=sin,
        inv_freq=Memory(inv_freq),
        positions=Memory(positions),
        num_tokens=count(9),
        half=half,
        magnitude=1.25,
    )
    # The product in float64 is off by 2^-53 of itself, what is left of whole turns by as much;
    # then one rounding to float32 and one of the magnitude.
    angle = positions[:9, None] * inv_freq.astype(np.float64)
    for result, exact in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        bound = 2 * UNIT_ROUNDOFF * np.abs(exact) + 2.0**-51 * angle + 2.0**-50
        assert np.all(np.abs(result.array[:9] / 1.25 - exact) <= bound)
        assert np.isnan(result.array[9]).all()
    assert np.array_equal(cos.array[0], np.full(half, 1.25, np.float32))
    assert np.array_equal(sin.array[0], np.zeros(half, np.float32))


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(("heads", "head_dim", "half"), [(3, 64, 32), (9, 80, 20), (1, 256, 128)])
def test_pairs_are_rotated_and_the_rest_is_left(
    heads: int, head_dim: int, half: int, interleaved: int, wave: int
) -> None:
    rng = np.random.default_rng(half)
    stride = heads * head_dim + 5
    x = rng.standard_normal((4, stride), dtype=np.float32)
    angle = rng.uniform(0, 7, (3, half))
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    y = Memory(x)
    launch(
        "rope",
        wave,
        (4, ceil_div(heads, THREADS // wave)),
        x=y,
        cos=Memory(cos),
        sin=Memory(sin),
        num_tokens=count(3),
        row_stride=stride,
        heads=heads,
        head_dim=head_dim,
        half=half,
        interleaved=interleaved,
    )
    pair = np.arange(half)
    first = 2 * pair if interleaved else pair
    second = first + (1 if interleaved else half)
    exact = x.astype(np.float64)
    bound = np.zeros_like(exact)
    c, s = cos.astype(np.float64), sin.astype(np.float64)
    for head in range(heads):
        a, b = head * head_dim + first, head * head_dim + second
        u, v = x[:3, a].astype(np.float64), x[:3, b].astype(np.float64)
        exact[:3, a], exact[:3, b] = u * c - v * s, u * s + v * c
        bound[:3, a] = 2 * UNIT_ROUNDOFF * (np.abs(u * c) + np.abs(v * s))
        bound[:3, b] = 2 * UNIT_ROUNDOFF * (np.abs(u * s) + np.abs(v * c))
    assert np.all(np.abs(y.array - exact) <= bound)


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(("head_dim", "value_dim"), [(64, 64), (96, 32), (32, 256)])
def test_keys_and_values_reach_their_slots_alone(
    kv_type: str, head_dim: int, value_dim: int, wave: int
) -> None:
    kv_heads = 5
    cache = PagedCache(kv_type, kv_heads, head_dim, value_dim, block_size=6, num_blocks=4)
    rng = np.random.default_rng(head_dim)
    k = rng.standard_normal((5, kv_heads, head_dim), dtype=np.float32)
    v = rng.standard_normal((5, kv_heads, value_dim), dtype=np.float32)
    k[0, 0], v[1, 2] = 0.0, 1e-7
    slots = np.array([23, -1, 0, 7, 8], np.int32)
    cache.store(k, v, slots, wave, tokens=4)
    keys, values = cache.rows()
    for token, slot in ((0, 23), (2, 0), (3, 7)):
        assert np.array_equal(keys[slot], stored(kv_type, k[token]))
        assert np.array_equal(values[slot], stored(kv_type, v[token]))
    written = np.zeros(24, bool)
    written[[23, 0, 7]] = True
    assert cache.is_untouched(~written)


@pytest.mark.parametrize("wave", WAVES)
def test_what_8_bits_cannot_hold_comes_back_infinite_or_nan(wave: int) -> None:
    cache = PagedCache("q8_0", 1, 32, 32, block_size=4, num_blocks=1)
    k = np.ones((3, 1, 32), np.float32)
    k[0, 0, 3], k[1, 0, 4], k[2, 0, 5] = np.inf, np.nan, 1e9
    cache.store(k, k, np.arange(3, dtype=np.int32), wave)
    assert not np.isfinite(cache.rows()[0][:3]).any()
