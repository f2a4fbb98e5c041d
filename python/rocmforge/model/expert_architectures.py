"""Architectures whose layers have experts.

Names and requirements are those of llama.cpp's loaders (src/models).
"""

from __future__ import annotations

from dataclasses import replace

from rocmforge.model.architecture import (
    Activation,
    Architecture,
    ExpertGate,
    LogitScale,
    Norm,
    Presence,
    QkNorm,
    Windows,
)

_OPTIONAL, _ALWAYS = Presence.OPTIONAL, Presence.ALWAYS

_QWEN3MOE = Architecture(
    "qwen3moe", rope_interleaved=False, qk_norm=_ALWAYS, experts=True, only_experts=True
)

EXPERTS = (
    Architecture(
        "qwen2moe",
        rope_interleaved=False,
        qkv_bias=_ALWAYS,
        experts=True,
        only_experts=True,
        expert_weights_sum_to_one=False,
        shared_expert=_ALWAYS,
        shared_expert_gate=True,
    ),
    _QWEN3MOE,
    replace(_QWEN3MOE, name="qwen3vlmoe"),  # as qwen3vl
    # Phi 3.5 MoE, as published (arXiv:2409.12136): llama.cpp's graph has RMS norms in place of layer
    # norms and lets the shares of the chosen experts sum to one.
    Architecture(
        "phimoe",
        rope_interleaved=False,
        norm=Norm.LAYER,
        norm_bias=_ALWAYS,
        rms_epsilon=True,
        qkv_bias=_ALWAYS,
        attn_output_bias=_ALWAYS,
        output_bias=True,
        long_rope=True,
        experts=True,
        expert_gate=ExpertGate.SPARSE_MIXER,
    ),
    Architecture(
        "gpt-oss",
        rope_interleaved=False,
        ffn_norm="post_attention_norm",
        qkv_bias=_ALWAYS,
        attn_output_bias=_ALWAYS,
        sinks=True,
        windows=Windows(period=2),
        activation=Activation.OAI_GATED,
        experts=True,
        only_experts=True,
        expert_bias=True,
    ),
    Architecture(
        "granitemoe",
        rope_interleaved=True,
        attn_output_bias=_OPTIONAL,
        qkv_bias=_OPTIONAL,
        experts=True,
        shared_expert=_OPTIONAL,
        multipliers=True,
        rope_switch=True,
        logit_scale=LogitScale.DIVISOR,
    ),
    Architecture(
        "olmoe",
        rope_interleaved=False,
        qk_norm=_ALWAYS,
        qk_norm_over=QkNorm.WHOLE,
        experts=True,
        expert_weights_sum_to_one=False,
    ),
    # GLM 4.5 to 4.7.
    Architecture(
        "glm4moe",
        rope_interleaved=False,
        ffn_norm="post_attention_norm",
        qkv_bias=_ALWAYS,
        qk_norm=_OPTIONAL,
        experts=True,
        only_experts=True,
        expert_keys=True,
        expert_weights_sum_to_one=False,
        expert_gate=ExpertGate.SIGMOID,
        expert_choice_bias=_ALWAYS,
        shared_expert=_OPTIONAL,
        predicts_next=True,
    ),
    # MiniMax M2.
    Architecture(
        "minimax-m2",
        rope_interleaved=False,
        qk_norm=_ALWAYS,
        qk_norm_over=QkNorm.WHOLE,
        experts=True,
        only_experts=True,
        expert_keys=True,
        expert_choice_bias=_ALWAYS,
    ),
    # DeepSeek V1 with experts.
    Architecture(
        "deepseek",
        rope_interleaved=True,
        experts=True,
        only_experts=True,
        expert_keys=True,
        expert_weights_sum_to_one=False,
        shared_expert=_ALWAYS,
    ),
    # DeepSeek V2 to V3.1, Kimi K2, converted for latent attention.
    Architecture(
        "deepseek2",
        rope_interleaved=True,
        latent=True,
        experts=True,
        only_experts=True,
        expert_keys=True,
        expert_weights_sum_to_one=False,
        expert_choice_bias=_OPTIONAL,
        shared_expert=_ALWAYS,
    ),
    Architecture(
        "dots1",
        rope_interleaved=False,
        qk_norm=_ALWAYS,
        experts=True,
        only_experts=True,
        expert_keys=True,
        expert_weights_sum_to_one=False,
        expert_choice_bias=_OPTIONAL,
        shared_expert=_ALWAYS,
    ),
)
