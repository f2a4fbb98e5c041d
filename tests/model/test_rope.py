"""Rope frequencies against formulas written down independently: angle by angle as ggml's rope
kernel computes them, and by wavelength as Llama 3.1's reference does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gguf_bytes.tiny import HEAD_DIM, f32_tensor, tiny_model
from gguf_bytes.writer import GGUFBytes
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig, RopeConfig, RopeScaling, rope_frequencies

# float64 throughout, then one rounding to float32.
ROUNDING = float(np.finfo(np.float32).eps)


def peer_angle_and_magnitude(
    rope: RopeConfig, position: int, pair: int, divisor: float
) -> tuple[float, float]:
    """What llama_context and ggml's rope_yarn make of the same parameters."""
    factor = 1.0 if rope.scaling is RopeScaling.NONE else rope.factor
    freq_scale = 1 / factor
    extrapolate = rope.scaling is RopeScaling.YARN
    attn_factor = 1.0
    if extrapolate:
        attn_factor = (1 + 0.1 * math.log(factor)) if factor > 1 else 1.0
        attn_factor /= 1 + 0.1 * math.log(factor)
    attn_factor *= rope.attn_factor

    theta_extrap = position / divisor
    for _ in range(pair):
        theta_extrap *= rope.base ** (-2 / rope.rotary_dim)
    theta = theta_extrap * freq_scale
    if not extrapolate:
        return theta, attn_factor

    def corr_dim(rotations: float) -> float:
        log = math.log(rope.original_context_length / (rotations * 2 * math.pi))
        return rope.rotary_dim * log / (2 * math.log(rope.base))

    start = max(0, math.floor(corr_dim(rope.beta_fast)))
    end = min(rope.rotary_dim - 1, math.ceil(corr_dim(rope.beta_slow)))
    ramp = 1 - min(1, max(0, (pair - start) / max(0.001, end - start)))
    theta = theta * (1 - ramp) + theta_extrap * ramp
    return theta, attn_factor * (1 + 0.1 * math.log(1 / freq_scale))


SCALINGS = {
    "plain": RopeConfig(64, True, 10000.0),
    "none_ignores_factor": RopeConfig(64, True, 1e4, RopeScaling.NONE, 4.0, 2048),
    "linear": RopeConfig(128, False, 1e6, RopeScaling.LINEAR, 4.0, 2048),
    "linear_shrinking": RopeConfig(8, True, 500.0, RopeScaling.LINEAR, 0.5, 64, 0.75),
    "yarn_qwen": RopeConfig(128, False, 1e6, RopeScaling.YARN, 4.0, 32768),
    "yarn_7b_128k": RopeConfig(128, True, 1e4, RopeScaling.YARN, 32.0, 4096),
    "yarn_attn_factor": RopeConfig(64, True, 1e4, RopeScaling.YARN, 8.0, 2048, 0.75),
    "yarn_betas": RopeConfig(
        64, True, 1e4, RopeScaling.YARN, 8.0, 2048, beta_fast=16.0, beta_slow=2.0
    ),
    "yarn_factor_1": RopeConfig(64, True, 1e4, RopeScaling.YARN, 1.0, 2048),
    "yarn_shrinking": RopeConfig(64, True, 1e4, RopeScaling.YARN, 0.5, 2048),
    "yarn_tiny_context": RopeConfig(64, True, 1e4, RopeScaling.YARN, 4.0, 2),
    "yarn_huge_context": RopeConfig(16, True, 1e4, RopeScaling.YARN, 4.0, 2**31 - 1),
    # Pairs 5 to 9 would be the ramp; a head of 16 has 8.
    "yarn_ramp_past_the_last_pair": RopeConfig(16, True, 1e4, RopeScaling.YARN, 4.0, 65536),
    "yarn_narrow": RopeConfig(2, True, 1e4, RopeScaling.YARN, 4.0, 2048),
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("with_factors", [False, True])
def test_angles_and_magnitude_are_those_of_ggml(name: str, with_factors: bool) -> None:
    rope = SCALINGS[name]
    half = rope.rotary_dim // 2
    factors = np.linspace(1, 8, half, dtype=np.float32) if with_factors else None
    frequencies = rope.inverse_frequencies(factors)
    assert (frequencies.dtype, frequencies.shape) == (np.float32, (half,))
    for position in (1, 7, 4096):
        for pair in range(half):
            divisor = 1.0 if factors is None else float(factors[pair])
            angle, magnitude = peer_angle_and_magnitude(rope, position, pair, divisor)
            assert float(frequencies[pair]) * position == pytest.approx(angle, rel=ROUNDING)
            assert rope.magnitude() == pytest.approx(magnitude, rel=1e-12)


def test_yarn_by_hand() -> None:
    """dim 8, base 10000, context 2048: pairs turn 325.9, 32.6, 3.26 and 0.326 times; the ramp runs
    from floor(1.008) = 1 to ceil(2.513) = 3, so the shares kept are 1, 1, 1/2, 0."""
    rope = RopeConfig(8, True, 10000.0, RopeScaling.YARN, 4.0, 2048)
    expected = [1.0, 0.1, 0.01 * (0.5 + 0.5 / 4), 0.001 / 4]
    assert rope.inverse_frequencies() == pytest.approx(expected, rel=ROUNDING)
    assert rope.magnitude() == pytest.approx(1.1386294361, rel=1e-9)


def llama31_frequency(frequency: float, factor: float, low: float, high: float, ctx: int) -> float:
    """By wavelength, as Meta's reference code has it."""
    wavelength = 2 * math.pi / frequency
    if wavelength < ctx / high:
        return frequency
    if wavelength > ctx / low:
        return frequency / factor
    smooth = (ctx / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


@pytest.mark.parametrize(("factor", "low", "high"), [(8.0, 1.0, 4.0), (32.0, 1.0, 4.0), (2, 2, 9)])
def test_llama3_scaling_is_that_of_llama_31(factor: float, low: float, high: float) -> None:
    rope = RopeConfig(
        128,
        True,
        500000.0,
        RopeScaling.LLAMA3,
        factor,
        8192,
        low_freq_factor=low,
        high_freq_factor=high,
    )
    plain = [500000.0 ** (-2 * i / 128) for i in range(64)]
    expected = [llama31_frequency(f, factor, low, high, 8192) for f in plain]
    assert rope.inverse_frequencies() == pytest.approx(expected, rel=ROUNDING)
    assert rope.magnitude() == 1.0
    # As converters do it: the same frequencies by way of divisors, which then replace the rule.
    divisors = np.array([p / e for p, e in zip(plain, expected, strict=True)], np.float32)
    assert rope.inverse_frequencies(divisors) == pytest.approx(expected, rel=2 * ROUNDING)


def model_with_factors(data: bytes, type_id: int = 0) -> GGUFBytes:
    model = tiny_model()
    model.tensors.append(f32_tensor("rope_freqs.weight", HEAD_DIM // 2))
    model.tensors[-1].data, model.tensors[-1].type_id = data, type_id
    return model


def read(path: Path, model: GGUFBytes) -> np.ndarray:
    path.write_bytes(model.build())
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        return rope_frequencies(file, config.rope, config.context_length)


def test_divisors_are_read_from_the_file(tmp_path: Path) -> None:
    plain = read(tmp_path / "plain.gguf", tiny_model())
    divisors = np.array([1, 2, 4, 8], "<f4")
    divided = read(tmp_path / "divided.gguf", model_with_factors(divisors.tobytes()))
    assert plain == pytest.approx([1.0, 0.1, 0.01, 0.001], rel=ROUNDING)
    assert (divided == plain / divisors).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_divisors_that_are_no_positive_number_are_refused(tmp_path: Path, bad: float) -> None:
    divisors = np.array([1, 2, bad, 8], "<f4")
    with pytest.raises(ModelFileError, match=r"rope factor 2 is .*, not a positive number"):
        read(tmp_path / "model.gguf", model_with_factors(divisors.tobytes()))


def test_frequencies_beyond_float32_are_refused(tmp_path: Path) -> None:
    divisors = np.array([1e-45, 1, 1, 1], "<f4")
    with pytest.raises(ModelFileError, match="beyond float32"):
        read(tmp_path / "model.gguf", model_with_factors(divisors.tobytes()))


def test_divisors_of_another_type_are_refused(tmp_path: Path) -> None:
    half_floats = np.ones(HEAD_DIM // 2, np.float16)
    with pytest.raises(UnsupportedError, match="stored as F16; F32 is supported"):
        read(tmp_path / "model.gguf", model_with_factors(half_floats.tobytes(), 1))
