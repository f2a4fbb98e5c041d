"""Rotary position embedding: every kind of scaling folded into one frequency per pair.

Definitions are llama.cpp's: `ggml_rope_yarn_corr_dims` and `rope_yarn` of ggml for YaRN (Peng et
al., arXiv:2309.00071), freq_scale = 1 / factor for linear scaling, `rope_freqs.weight` as divisors
for Llama 3. The last is computed here too for files that carry its parameters instead.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile, TensorType

ROPE_FACTORS = "rope_freqs.weight"
SHORT_FACTORS = "rope_factors_short.weight"
LONG_FACTORS = "rope_factors_long.weight"


class RopeScaling(enum.Enum):
    """Values are those of the metadata key `rope.scaling.type`."""

    NONE = "none"
    LINEAR = "linear"
    YARN = "yarn"
    LLAMA3 = "llama3"
    LONGROPE = "longrope"  # divisors in tensors (Ding et al., arXiv:2402.13753); else as LINEAR


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """`factor` is how many times longer than in training a context may be."""

    rotary_dim: int  # leading elements of a head that turn: even, at most head_dim
    interleaved: bool  # pairs (2i, 2i+1); else (i, i + rotary_dim / 2)
    base: float
    scaling: RopeScaling = RopeScaling.NONE
    factor: float = 1.0
    original_context_length: int = 0  # positions; used by yarn and llama3
    attn_factor: float = 1.0  # multiplies cos and sin
    beta_fast: float = 32.0  # yarn: pairs that turn this often in the original context stay
    beta_slow: float = 1.0  # yarn: pairs that turn this seldom are interpolated
    low_freq_factor: float = 1.0  # llama3: as beta_slow
    high_freq_factor: float = 4.0  # llama3: as beta_fast
    yarn_log_multiplier: float = 0.0  # above 0: magnitudes are in the attention's scale instead
    has_factors: bool = False  # the file holds rope_freqs.weight
    has_long_factors: bool = False  # it holds divisors for contexts up to the original, and beyond

    def factors_name(self, context: int) -> str | None:
        """The tensor that holds the divisors for sequences of up to `context` tokens."""
        if self.has_factors:
            return ROPE_FACTORS
        if self.has_long_factors:
            return LONG_FACTORS if context > self.original_context_length else SHORT_FACTORS
        return None

    def inverse_frequencies(
        self, factors: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Radians per position, [rotary_dim / 2]; `factors` of the same shape divide them.

        Factors take the place of llama3's scaling, from which converters compute them.
        """
        half = self.rotary_dim // 2
        frequencies = self.base ** (-np.arange(half, dtype=np.float64) / half)
        if factors is not None:
            with np.errstate(over="ignore"):  # A factor near zero: the caller checks the result.
                frequencies = frequencies / factors.astype(np.float64)
        if self.scaling in (RopeScaling.LINEAR, RopeScaling.LONGROPE):
            frequencies = frequencies / self.factor
        elif self.scaling is RopeScaling.YARN:
            kept = self._yarn_kept()
            frequencies = frequencies * kept + frequencies / self.factor * (1 - kept)
        elif self.scaling is RopeScaling.LLAMA3 and factors is None:
            kept = self._llama3_kept(frequencies)
            frequencies = frequencies * kept + frequencies / self.factor * (1 - kept)
        with np.errstate(over="ignore"):
            return frequencies.astype(np.float32)

    def magnitude(self) -> float:
        """Factor on cos and sin: yarn's 0.1 ln(factor) + 1 (section 3.4), times `attn_factor`."""
        in_rotation = self.yarn_log_multiplier == 0
        if self.scaling is RopeScaling.YARN and self.factor > 1 and in_rotation:
            return (0.1 * math.log(self.factor) + 1) * self.attn_factor
        return self.attn_factor

    def _yarn_kept(self) -> npt.NDArray[np.float64]:
        """Share of each pair's frequency that stays as trained, 1 for the fast ones."""
        low = max(0.0, math.floor(self._pair_turning(self.beta_fast)))
        high = min(self.rotary_dim - 1.0, math.ceil(self._pair_turning(self.beta_slow)))
        pairs = np.arange(self.rotary_dim // 2, dtype=np.float64)
        return 1 - np.clip((pairs - low) / max(0.001, high - low), 0, 1)

    def _pair_turning(self, rotations: float) -> float:
        """Which pair turns `rotations` times within the original context."""
        turns = self.original_context_length / (rotations * 2 * math.pi)
        return self.rotary_dim * math.log(turns) / (2 * math.log(self.base))

    def _llama3_kept(self, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        turns = self.original_context_length * frequencies / (2 * math.pi)
        span = self.high_freq_factor - self.low_freq_factor
        return np.clip((turns - self.low_freq_factor) / span, 0, 1)


def rope_frequencies(file: GGUFFile, rope: RopeConfig, context: int) -> npt.NDArray[np.float32]:
    """`rope.inverse_frequencies` with the divisors that the file holds, checked to be finite.

    `context` is the longest sequence to come, which chooses among divisors. Their shape is taken
    as checked by `check_tensors`.
    """
    factors = None
    name = rope.factors_name(context)
    if name is not None:
        tensor = file.tensors[name]
        if tensor.type is not TensorType.F32:
            msg = f"{file.path}: {name} is stored as {tensor.type.name}; F32 is supported"
            raise UnsupportedError(msg)
        factors = file.tensor_data(name).view("<f4")
        bad = np.flatnonzero(~(np.isfinite(factors) & (factors > 0)))
        if bad.size:
            msg = f"{file.path}: rope factor {bad[0]} is {factors[bad[0]]}, not a positive number"
            raise ModelFileError(msg, offset=tensor.offset, key=name)
    frequencies = rope.inverse_frequencies(factors)
    if not np.isfinite(frequencies).all():
        msg = f"{file.path}: rope factors or scaling give frequencies beyond float32"
        raise ModelFileError(msg, key=name)
    return frequencies
