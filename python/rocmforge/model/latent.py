"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) as a file describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from rocmforge.errors import UnsupportedError
from rocmforge.model.architecture import Architecture
from rocmforge.model.keys import Keys
from rocmforge.model.rope import RopeConfig, RopeScaling

MAX_LATENT: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class LatentConfig:
    size: int  # of the vector of keys and values
    query_size: int  # of the vector queries come from; 0: they come from hidden values
    key_dim: int  # of a head's key, without the part that rotates
    value_dim: int  # of a head's value


def read_latent(
    keys: Keys, architecture: Architecture, num_kv_heads: int, head_dim: int, value_dim: int
) -> LatentConfig | None:
    """None where attention is plain. The last three are of what the cache holds."""
    if not architecture.latent:
        return None
    if "attention.key_length_mla" not in keys or num_kv_heads != 1:
        msg = (
            f"this {architecture.name} file keeps keys and values of all heads (attn_kv_b), as "
            "files of before April 2025 do; convert the model again"
        )
        raise UnsupportedError(msg)
    size = keys.uint("attention.kv_lora_rank", maximum=MAX_LATENT)
    key_length = keys.uint("attention.key_length_mla", maximum=MAX_LATENT)
    rotary = head_dim - size
    if rotary < 2 or keys.uint("rope.dimension_count", head_dim, maximum=head_dim) != rotary:
        message = f"{head_dim} is not the latent size {size} and what rotates"
        keys.fail("attention.key_length", message)
    if value_dim != size:
        keys.fail("attention.value_length", f"{value_dim} is not the latent size {size}")
    if key_length <= rotary:
        keys.fail("attention.key_length_mla", f"{key_length} is not above {rotary}, what rotates")
    return LatentConfig(
        size=size,
        query_size=keys.uint("attention.q_lora_rank", 0, minimum=0, maximum=MAX_LATENT),
        key_dim=key_length - rotary,
        value_dim=keys.uint("attention.value_length_mla", maximum=MAX_LATENT),
    )


def latent_scale(latent: LatentConfig, rotary: int, rope: RopeConfig) -> float:
    """On query-key products: yarn's correction is here and not in the rotation."""
    scale = 1 / math.sqrt(latent.key_dim + rotary)
    if rope.scaling is RopeScaling.YARN:
        scale *= (1 + rope.yarn_log_multiplier * math.log(rope.factor)) ** 2
    return scale
