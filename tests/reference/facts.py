"""What the names of architectures imply and files do not say, as llama.cpp's graphs have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Facts:
    interleaved: bool = False  # pairs that turn together: neighbours, else halves
    layer_norm: bool = False  # else RMS
    activation: str = "silu"  # "gelu", "oai", "relu2"
    gated: bool = True
    ffn_norm: str = "ffn_norm"
    parallel_key: bool = False  # use_parallel_residual, with norms of their own
    parallel: bool = False  # attention and the feed-forward network read the same
    scaled_embedding: bool = False  # by the root of its width
    window_period: int = 0  # of so many layers the last has no window
    default_window: int = 0
    local_base: float | None = None  # of rotation under a window; None: as elsewhere
    plain_local_rope: bool = False  # under a window, rotation is not scaled
    no_rope_period: int = 0
    rope_under_windows_only: bool = False
    no_rope: bool = False
    encoder: bool = False  # tokens see those after them
    alibi: bool = False  # scores fall with distance
    full_first: bool = False  # of a period, the first layer has no window instead of the last
    expert_keys: bool = False  # say how experts are chosen and weighed
    sums_by_default: bool = False  # weights of the chosen experts sum to one, without the key
    sigmoid_gate: bool = False  # unless a key says otherwise
    sparse_mixer: bool = False  # experts are weighed as GRIN's (arXiv:2409.12136)
    shares_of_all: bool = False  # experts are weighed by the softmax over all of them
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    inverse_logit_scale: bool = False
    wide_scale_layers: int = 0


_BERT = Facts(layer_norm=True, activation="gelu", gated=False, no_rope=True, encoder=True)
_COHERE = Facts(interleaved=True, layer_norm=True, parallel=True)
FACTS: dict[str, Facts] = {
    "llama": Facts(interleaved=True),
    "qwen2": Facts(),
    "qwen3": Facts(),
    "qwen2moe": Facts(shares_of_all=True),
    "qwen3moe": Facts(),
    "gemma": Facts(activation="gelu", scaled_embedding=True),
    "gemma2": Facts(
        activation="gelu",
        scaled_embedding=True,
        window_period=2,
        default_window=4096,
        attention_cap=50.0,
        logit_cap=30.0,
        wide_scale_layers=46,
    ),
    "gemma3": Facts(
        activation="gelu",
        scaled_embedding=True,
        window_period=6,
        local_base=10000.0,
        plain_local_rope=True,
        wide_scale_layers=62,
    ),
    "phi3": Facts(),
    # As Microsoft published it; llama.cpp's graph has RMS norms and shares that sum to one.
    "phimoe": Facts(layer_norm=True, sparse_mixer=True),
    "gpt-oss": Facts(activation="oai", ffn_norm="post_attention_norm", window_period=2),
    "granite": Facts(interleaved=True, inverse_logit_scale=True),
    "granitemoe": Facts(interleaved=True, inverse_logit_scale=True),
    "olmo2": Facts(window_period=4, plain_local_rope=True),
    "olmoe": Facts(shares_of_all=True),
    "smollm3": Facts(interleaved=True, no_rope_period=4),
    "glm4": Facts(interleaved=True),
    "glm4moe": Facts(ffn_norm="post_attention_norm", expert_keys=True, sigmoid_gate=True),
    "deepseek": Facts(interleaved=True, expert_keys=True),
    "deepseek2": Facts(interleaved=True, expert_keys=True),
    "dots1": Facts(expert_keys=True),
    "internlm2": Facts(interleaved=True),
    "ernie4_5": Facts(interleaved=True),
    "exaone": Facts(),
    "seed_oss": Facts(ffn_norm="post_attention_norm"),
    "chatglm": Facts(interleaved=True),
    "stablelm": Facts(layer_norm=True),
    "starcoder2": Facts(layer_norm=True, activation="gelu", gated=False),
    "command-r": _COHERE,
    "cohere2": Facts(
        interleaved=True,
        layer_norm=True,
        parallel=True,
        window_period=4,
        rope_under_windows_only=True,
    ),
    "falcon": Facts(layer_norm=True, activation="gelu", gated=False, parallel=True),
    "phi2": Facts(layer_norm=True, activation="gelu", gated=False, parallel=True),
    "nemotron": Facts(layer_norm=True, activation="relu2", gated=False),
    "arcee": Facts(interleaved=True, activation="relu2", gated=False),
    "minimax-m2": Facts(expert_keys=True, sums_by_default=True),
    "gptneox": Facts(layer_norm=True, activation="gelu", gated=False, parallel_key=True),
    "codeshell": Facts(layer_norm=True, activation="gelu", gated=False),
    "starcoder": Facts(layer_norm=True, activation="gelu", gated=False, no_rope=True),
    "exaone4": Facts(window_period=4, rope_under_windows_only=True),
    "qwen2vl": Facts(),
    "qwen3vl": Facts(),
    "qwen3vlmoe": Facts(),
    "gpt2": Facts(layer_norm=True, activation="gelu", gated=False, no_rope=True),
    "bert": _BERT,
    "nomic-bert": Facts(layer_norm=True, encoder=True),
    "jina-bert-v2": replace(_BERT, gated=True, alibi=True),
    "jina-bert-v3": replace(_BERT, no_rope=False),
    "modern-bert": Facts(
        layer_norm=True, activation="gelu", encoder=True, window_period=3, full_first=True
    ),
    "eurobert": Facts(encoder=True),
}


def windows(facts: Facts, keys: Mapping[str, Any], num_layers: int) -> list[int]:
    """How many positions each layer sees; 0 for all."""
    window = int(keys.get("attention.sliding_window", facts.default_window))
    pattern = keys.get("attention.sliding_window_pattern", facts.window_period)
    if not facts.window_period or not window:
        return [0] * num_layers
    if isinstance(pattern, list):
        return [window if windowed else 0 for windowed in pattern]
    full = 0 if facts.full_first else pattern - 1
    return [window if pattern and layer % pattern != full else 0 for layer in range(num_layers)]
