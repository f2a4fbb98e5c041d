"""What the native forward pass needs of a configuration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.model.config import ModelConfig


def decoder_spec(config: ModelConfig, inv_freq: npt.NDArray[np.float32]) -> _native.DecoderSpec:
    """`inv_freq` as rope_frequencies() gives it."""
    spec = _native.DecoderSpec()
    for name in (
        "num_layers",
        "hidden_size",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "value_dim",
        "vocab_size",
        "num_experts",
        "num_experts_used",
        "norm_eps",
        "attention_scale",
    ):
        setattr(spec, name, getattr(config, name))
    spec.ffn_size = config.expert_ffn_size if config.num_experts else config.ffn_size
    spec.rope_interleaved = config.rope.interleaved
    spec.rope_inv_freq = inv_freq.tolist()
    spec.rope_magnitude = config.rope.magnitude()
    return spec
