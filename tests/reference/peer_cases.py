"""The tiny models that llama.cpp has been asked about: one for each fact of the oracle.

CASES are float32, since llama.cpp quantizes activations for quantized weights and the oracle
does not; how far that takes it from the oracle is what QUANTIZED is for. A prompt longer than
the original context makes rope scaling matter.
"""

from __future__ import annotations

import hashlib
from typing import Any

from reference.tiny_traits import TRAITS

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-gqa": ("llama", {}),
    "llama-mqa-head-128": ("llama", {"num_kv_heads": 1, "head_dim": 128}),
    "llama-spm-tied": ("llama", {"vocabulary": "spm", "tied_output": True}),
    "llama-bias": ("llama", {"attention_bias": True}),
    "llama-experts": ("llama", {"num_experts": 4}),
    "llama-linear": ("llama", {"rope_scaling": "linear"}),
    "llama-none": ("llama", {"rope_scaling": "none"}),
    "llama-yarn": ("llama", {"rope_scaling": "yarn", "head_dim": 32}),
    "llama-yarn-betas": ("llama", {"rope_scaling": "yarn-betas", "head_dim": 32}),
    "llama-llama3": ("llama", {"rope_scaling": "llama3", "head_dim": 32, "rope_base": 500000.0}),
    "qwen2": ("qwen2", {}),
    "qwen2-yarn": ("qwen2", {"rope_scaling": "yarn-attn", "rope_base": 1000000.0}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3-yarn": ("qwen3", {"rope_scaling": "yarn", "head_dim": 64, "context_length": 1024}),
}

# One for each of the other architectures, and for what their files may have or not.
CASES |= {
    name: (name, {})
    for name, traits in TRAITS.items()
    if name not in (*CASES, "llama") and not (traits.encoder or traits.unlike_peer)
}
CASES |= {
    "gemma2-pattern": ("gemma2", {"keys": {"attention.sliding_window_pattern": [False, True]}}),
    "phi3-short": ("phi3", {"keys": {"rope.scaling.original_context_length": 256}}),
    "gpt-oss-yarn": ("gpt-oss", {"rope_scaling": "yarn", "head_dim": 32}),
    "olmo2-windows": (
        "olmo2",
        {"num_layers": 4, "rope_scaling": "yarn", "keys": {"attention.sliding_window": 20}},
    ),
    # It reads no epsilon for this one: 0 to it.
    "qwen2vl": ("qwen2vl", {"epsilon": 1e-12}),
    # llama.cpp takes as many key heads as query heads in these.
    "olmoe": ("olmoe", {"num_kv_heads": 4}),
    "dots1": ("dots1", {"num_kv_heads": 4}),
    # And all inner sizes alike in this one.
    "minimax-m2": ("minimax-m2", {"feed_forward": 32}),
    "deepseek2-lite": (
        "deepseek2",
        {
            "changes": {"choice_bias": False},
            "keys": {
                "attention.q_lora_rank": 0,
                "expert_gating_func": 1,
                "expert_weights_norm": False,
                "expert_weights_scale": 1.0,
            },
        },
    ),
    "deepseek2-yarn": (
        "deepseek2",
        {"rope_scaling": "yarn", "keys": {"rope.scaling.yarn_log_multiplier": 0.0707}},
    ),
    "granite-without-rope": ("granite", {"keys": {"rope.scaling.finetuned": False}}),
    "gptneox-sequential": ("gptneox", {"keys": {"use_parallel_residual": False}}),
    # llama.cpp heeds windows, and loads norms, of models of this depth alone.
    "exaone4-windows": ("exaone4", {"num_layers": 64, "keys": {"attention.sliding_window": 20}}),
    "command-r-qk-norm": (
        "command-r",
        {"num_layers": 64, "changes": {"qk_norm": "each-head"}},
    ),
    "stablelm-parallel": (
        "stablelm",
        {"changes": {"pre_norms": ("attn_norm",), "qk_norm": "each-head"}},
    ),
    "falcon-two-norms": ("falcon", {"changes": {"pre_norms": ("attn_norm", "attn_norm_2")}}),
}
# Models that make embeddings and predict nothing.
EMBEDDING_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {}) for name, traits in TRAITS.items() if traits.encoder
}
EMBEDDING_CASES |= {
    "bert-head-24": ("bert", {"head_dim": None, "num_heads": 3, "num_kv_heads": 3, "dim": 96}),
    "bert-fused-qkv": ("bert", {"changes": {"fused_qkv": True}}),
    "jina-bert-v2-fused": ("jina-bert-v2", {"changes": {"fused_gate_up": True}}),
    "jina-bert-v2-norms": (
        "jina-bert-v2",
        {
            "changes": {
                "qk_norm": "whole",
                "post_norms": ("attn_output_norm", "attn_norm_2", "layer_output_norm"),
            }
        },
    ),
    "jina-bert-v2-six-heads": ("jina-bert-v2", {"num_heads": 6, "num_kv_heads": 6, "dim": 96}),
    "qwen2-both-ways": ("qwen2", {"keys": {"attention.causal": False}}),
}
EMBEDDING_CASES = {
    name: (architecture, {"num_kv_heads": 4, **knobs})
    for name, (architecture, knobs) in EMBEDDING_CASES.items()
}
# llama.cpp looks GELU up in a table of float16.
ROUNDED = ("gemma", "gemma2", "gemma2-pattern", "gemma3", "starcoder2", "falcon", "gpt2")
ROUNDED += ("falcon-two-norms", "phi2", "gptneox", "gptneox-sequential", "codeshell", "starcoder")

# Keys that llama.cpp heeds for other architectures only, as arguments to it.
PEER_ARGUMENTS = {"llama-yarn-betas": {"yarn_beta_fast": 24.0, "yarn_beta_slow": 2.0}}

# Formats whose activations are quantized, each as a `llama` of this seed.
QUANTIZED = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "MXFP4"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "Q4_K_M"),
)
QUANTIZED_SEED = 4

PROMPT_LENGTH = 96


def prompt(vocab_size: int, length: int = PROMPT_LENGTH) -> list[int]:
    raw = hashlib.shake_128(b"prompt").digest(2 * length)
    return [int.from_bytes(raw[i : i + 2], "little") % vocab_size for i in range(0, len(raw), 2)]
