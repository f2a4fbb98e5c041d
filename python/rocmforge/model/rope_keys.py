"""The rotation that a file's metadata describes."""

from __future__ import annotations

import reprlib
from typing import Final

from rocmforge.errors import UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.architecture import Architecture, Presence
from rocmforge.model.keys import Keys
from rocmforge.model.rope import LONG_FACTORS, ROPE_FACTORS, RopeConfig, RopeScaling

MAX_CONTEXT: Final = (1 << 31) - 1  # positions are int32


def read_rope(
    file: GGUFFile, keys: Keys, architecture: Architecture, head_dim: int, context_length: int
) -> RopeConfig:
    """Raises ModelFileError for a wrong value, UnsupportedError for an unknown kind of scaling."""
    rotary_dim = keys.uint("rope.dimension_count", head_dim, maximum=head_dim)
    if rotary_dim % 2:
        keys.fail("rope.dimension_count", f"{rotary_dim} dimensions are not pairs")
    base = keys.float("rope.freq_base", 10000.0)
    if base <= 1:
        keys.fail("rope.freq_base", f"{base} is not above 1")
    # llama.cpp: without a type, scaling is linear; without a factor, there is none.
    name = file.metadata.string(keys.key("rope.scaling.type"), "linear")
    if name not in {scaling.value for scaling in RopeScaling}:
        known = ", ".join(scaling.value for scaling in RopeScaling)
        msg = f"rope scaling {reprlib.repr(name)} is not supported; these kinds are: {known}"
        raise UnsupportedError(msg)
    old_factor = keys.float("rope.scale_linear", 1.0)
    factor = keys.float("rope.scaling.factor", old_factor)
    low = keys.float("rope.scaling.low_freq_factor", 1.0)
    high = keys.float("rope.scaling.high_freq_factor", 4.0)
    if high <= low:
        keys.fail("rope.scaling.high_freq_factor", f"{high} is not above {low}")
    original = keys.uint(
        "rope.scaling.original_context_length", context_length, maximum=MAX_CONTEXT
    )
    scaling = RopeScaling(name)
    has_long_factors = architecture.long_rope and LONG_FACTORS in file.tensors
    if scaling is RopeScaling.LONGROPE and not has_long_factors:
        msg = f"rope scaling 'longrope' is not supported without the tensor {LONG_FACTORS}"
        raise UnsupportedError(msg)
    if factor == 1 and scaling is RopeScaling.LINEAR:
        scaling = RopeScaling.NONE
    return RopeConfig(
        rotary_dim=rotary_dim,
        interleaved=architecture.rope_interleaved,
        base=base,
        scaling=scaling,
        factor=factor,
        original_context_length=original,
        attn_factor=keys.float("rope.scaling.attn_factor", 1.0),
        beta_fast=keys.float("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=keys.float("rope.scaling.yarn_beta_slow", 1.0),
        yarn_log_multiplier=_yarn_log_multiplier(keys, architecture, scaling),
        low_freq_factor=low,
        high_freq_factor=high,
        has_factors=(
            architecture.rope_factors is not Presence.NEVER and ROPE_FACTORS in file.tensors
        ),
        has_long_factors=has_long_factors,
    )


def _yarn_log_multiplier(keys: Keys, architecture: Architecture, scaling: RopeScaling) -> float:
    if not architecture.latent or scaling is not RopeScaling.YARN:
        return 0.0
    return keys.float("rope.scaling.yarn_log_multiplier")
