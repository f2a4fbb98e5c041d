"""The architectures this build runs.

Names and requirements are those of llama.cpp's loaders (src/models). A new entry here is all that
a further architecture needs whose mechanisms are among those of architecture.py.
"""

from __future__ import annotations

import reprlib

from rocmforge.errors import UnsupportedError
from rocmforge.model.architecture import (
    Activation,
    Architecture,
    ExpertGate,
    LocalRope,
    LogitScale,
    Norm,
    Parallel,
    Presence,
    QkNorm,
    Windows,
)

_OPTIONAL, _ALWAYS = Presence.OPTIONAL, Presence.ALWAYS

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        # Llama 1 to 3.x, Mistral, Mixtral, Yi, TinyLlama.
        Architecture(
            "llama",
            rope_interleaved=True,
            qkv_bias=_OPTIONAL,
            attn_output_bias=_OPTIONAL,
            ffn_bias=_OPTIONAL,
            rope_factors=_OPTIONAL,
            experts=True,
        ),
        # Qwen 2 and 2.5.
        Architecture("qwen2", rope_interleaved=False, qkv_bias=_ALWAYS),
        Architecture("qwen3", rope_interleaved=False, qkv_bias=_OPTIONAL, qk_norm=_ALWAYS),
        Architecture("internlm2", rope_interleaved=True, qkv_bias=_OPTIONAL),
        Architecture("ernie4_5", rope_interleaved=True, qkv_bias=_OPTIONAL),
        Architecture("exaone", rope_interleaved=False, rope_factors=_OPTIONAL),
        Architecture(
            "seed_oss",
            rope_interleaved=False,
            ffn_norm="post_attention_norm",
            qkv_bias=_OPTIONAL,
        ),
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
        Architecture(
            "qwen3moe", rope_interleaved=False, qk_norm=_ALWAYS, experts=True, only_experts=True
        ),
        Architecture(
            "gemma",
            rope_interleaved=False,
            activation=Activation.GELU_GATED,
            embedding_scale_by_width=True,
        ),
        Architecture(
            "gemma2",
            rope_interleaved=False,
            post_norms=True,
            activation=Activation.GELU_GATED,
            embedding_scale_by_width=True,
            windows=Windows(period=2, size=4096),
            attention_cap=50.0,
            logit_cap=30.0,
            wide_scale_layers=46,
        ),
        Architecture(
            "gemma3",
            rope_interleaved=False,
            post_norms=True,
            qk_norm=_ALWAYS,
            activation=Activation.GELU_GATED,
            embedding_scale_by_width=True,
            windows=Windows(period=6, local_rope=LocalRope.BASE_10000),
            wide_scale_layers=62,
        ),
        # Phi 3, 3.5 and 4. Their windows are not used, as in llama.cpp.
        Architecture("phi3", rope_interleaved=False, long_rope=True, fused_gate_up=True),
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
            "granite",
            rope_interleaved=True,
            attn_output_bias=_OPTIONAL,
            qkv_bias=_OPTIONAL,
            ffn_bias=_OPTIONAL,
            multipliers=True,
            logit_scale=LogitScale.DIVISOR,
        ),
        Architecture(
            "granitemoe",
            rope_interleaved=True,
            attn_output_bias=_OPTIONAL,
            qkv_bias=_OPTIONAL,
            experts=True,
            shared_expert=_OPTIONAL,
            multipliers=True,
            logit_scale=LogitScale.DIVISOR,
        ),
        # OLMo 2 and 3.
        Architecture(
            "olmo2",
            rope_interleaved=False,
            pre_norms=False,
            post_norms=True,
            qk_norm=_ALWAYS,
            qk_norm_over=QkNorm.WHOLE,
            windows=Windows(period=4, local_rope=LocalRope.UNSCALED),
        ),
        Architecture(
            "olmoe",
            rope_interleaved=False,
            qk_norm=_ALWAYS,
            qk_norm_over=QkNorm.WHOLE,
            experts=True,
            expert_weights_sum_to_one=False,
        ),
        Architecture("smollm3", rope_interleaved=True, no_rope_period=4),
        Architecture(
            "glm4", rope_interleaved=True, post_norms=True, qkv_bias=_OPTIONAL, fused_gate_up=True
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
            expert_gate=ExpertGate.SIGMOID,
            expert_choice_bias=_ALWAYS,
            shared_expert=_OPTIONAL,
            predicts_next=True,
        ),
        # DeepSeek V1 with experts.
        Architecture(
            "deepseek",
            rope_interleaved=True,
            experts=True,
            only_experts=True,
            expert_keys=True,
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
            expert_choice_bias=_OPTIONAL,
            shared_expert=_ALWAYS,
        ),
        Architecture("chatglm", rope_interleaved=True, qkv_bias=_OPTIONAL, fused_gate_up=True),
        Architecture(
            "stablelm",
            rope_interleaved=False,
            norm=Norm.LAYER,
            norm_bias=_ALWAYS,
            qkv_bias=_OPTIONAL,
            qk_norm=_OPTIONAL,
            qk_norm_over=QkNorm.EACH_HEAD,
            parallel=Parallel.WITHOUT_FFN_NORM,
        ),
        Architecture(
            "starcoder2",
            rope_interleaved=False,
            norm=Norm.LAYER,
            norm_bias=_ALWAYS,
            qkv_bias=_OPTIONAL,
            attn_output_bias=_ALWAYS,
            ffn_bias=_ALWAYS,
            activation=Activation.GELU,
        ),
        Architecture(
            "command-r",
            rope_interleaved=True,
            norm=Norm.LAYER,
            qk_norm=_OPTIONAL,
            qk_norm_over=QkNorm.EACH_HEAD,
            parallel=Parallel.ALWAYS,
            logit_scale=LogitScale.FACTOR,
        ),
        # Command R7B.
        Architecture(
            "cohere2",
            rope_interleaved=True,
            norm=Norm.LAYER,
            parallel=Parallel.ALWAYS,
            full_layers_rotate=False,
            windows=Windows(period=4),
            logit_scale=LogitScale.FACTOR,
        ),
        Architecture(
            "falcon",
            rope_interleaved=False,
            norm=Norm.LAYER,
            norm_bias=_ALWAYS,
            attn_norm_2=True,
            activation=Activation.GELU,
            parallel=Parallel.ALWAYS,
        ),
        Architecture(
            "gpt2",
            rope_interleaved=False,
            rotates=False,
            norm=Norm.LAYER,
            norm_bias=_ALWAYS,
            qkv_bias=_ALWAYS,
            attn_output_bias=_ALWAYS,
            ffn_bias=_ALWAYS,
            activation=Activation.GELU,
        ),
    )
}


def find_architecture(name: str) -> Architecture:
    architecture = ARCHITECTURES.get(name)
    if architecture is None:
        msg = (
            f"architecture {reprlib.repr(name)} is not supported; "
            f"these are: {', '.join(ARCHITECTURES)}"
        )
        raise UnsupportedError(msg)
    return architecture
