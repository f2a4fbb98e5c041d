"""Architectures with one feed-forward network a layer, and llama, which may have several.

Names and requirements are those of llama.cpp's loaders (src/models).
"""

from __future__ import annotations

from dataclasses import replace

from rocmforge.model.architecture import (
    Activation,
    Architecture,
    LocalRope,
    LogitScale,
    Norm,
    Parallel,
    Presence,
    QkNorm,
    Windows,
)

_OPTIONAL, _ALWAYS = Presence.OPTIONAL, Presence.ALWAYS

# Qwen 2 and 2.5.
_QWEN2 = Architecture("qwen2", rope_interleaved=False, qkv_bias=_ALWAYS)
_QWEN3 = Architecture("qwen3", rope_interleaved=False, qkv_bias=_OPTIONAL, qk_norm=_ALWAYS)
_GPT2 = Architecture(
    "gpt2",
    rope_interleaved=False,
    rotates=False,
    norm=Norm.LAYER,
    norm_bias=_ALWAYS,
    qkv_bias=_ALWAYS,
    attn_output_bias=_ALWAYS,
    ffn_bias=_ALWAYS,
    activation=Activation.GELU,
)
_ROTATING_GPT = replace(_GPT2, name="codeshell", rotates=True)

DENSE = (
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
    _QWEN2,
    _QWEN3,
    # Text alone: all parts of a position are the same, so heads turn as in qwen2 and qwen3.
    replace(_QWEN2, name="qwen2vl"),
    replace(_QWEN3, name="qwen3vl"),
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
    Architecture("phi3", rope_interleaved=False, long_rope=True, fused_gate_up=_ALWAYS),
    Architecture(
        "granite",
        rope_interleaved=True,
        attn_output_bias=_OPTIONAL,
        qkv_bias=_OPTIONAL,
        ffn_bias=_OPTIONAL,
        multipliers=True,
        rope_switch=True,
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
        "exaone4",
        rope_interleaved=False,
        pre_norms=False,
        post_norms=True,
        qk_norm=_ALWAYS,
        rope_factors=_OPTIONAL,
        full_layers_rotate=False,
        windows=Windows(period=4),
    ),
    Architecture("smollm3", rope_interleaved=True, no_rope_period=4),
    Architecture(
        "glm4", rope_interleaved=True, post_norms=True, qkv_bias=_OPTIONAL, fused_gate_up=_ALWAYS
    ),
    Architecture("chatglm", rope_interleaved=True, qkv_bias=_OPTIONAL, fused_gate_up=_ALWAYS),
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
        "nemotron",
        rope_interleaved=False,
        norm=Norm.LAYER,
        norm_bias=_ALWAYS,
        qkv_bias=_OPTIONAL,
        attn_output_bias=_OPTIONAL,
        ffn_bias=_OPTIONAL,
        activation=Activation.RELU_SQUARED,
    ),
    # AFM of Arcee.
    Architecture(
        "arcee",
        rope_interleaved=True,
        rope_factors=_OPTIONAL,
        activation=Activation.RELU_SQUARED,
    ),
    _GPT2,
    replace(_GPT2, name="starcoder"),
    _ROTATING_GPT,
    replace(_ROTATING_GPT, name="starcoder2", qkv_bias=_OPTIONAL),
    # GPT-NeoX, Pythia.
    replace(_ROTATING_GPT, name="gptneox", parallel=Parallel.BY_KEY),
    replace(_ROTATING_GPT, name="phi2", parallel=Parallel.ALWAYS, output_bias=True),
)
