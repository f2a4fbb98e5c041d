"""What the files of each architecture hold beyond llama's: tensors and metadata keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Traits:
    layer_norm: bool = False  # the key of epsilon is another
    pre_norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    post_norms: tuple[str, ...] = ()
    norm_bias: bool = False
    rms_epsilon: bool = False  # in the key of RMS norms
    unlike_peer: bool = False  # llama.cpp computes something else
    attention_bias: bool = False
    attn_output_bias: bool = False
    ffn_bias: bool = False
    qk_norm: str | None = None  # "head", "each-head" or "whole"
    fused_qkv: bool = False
    fused_gate_up: bool = False
    gated: bool = True
    tied_output: bool = False
    output_bias: bool = False
    rotates: bool = True
    position_table: bool = False
    output_norm: bool = True
    long_factors: bool = False
    sinks: bool = False
    latent: bool = False  # sizes are among the keys
    num_experts: int = 0
    num_dense_layers: int = 0
    choice_bias: bool = False
    expert_bias: bool = False
    shared_expert: str | None = None  # "gated" or "plain"
    encoder: bool = False  # with the key that says so
    text_types: int = 0
    input_norm: bool = False
    bare_first_layer: bool = False  # without attn_norm
    num_layers: int = 2
    keys: dict[str, Any] = field(default_factory=dict)  # beyond those of llama


_LAYER_NORM: dict[str, Any] = {"layer_norm": True, "norm_bias": True}
_PLAIN = _LAYER_NORM | {
    "attention_bias": True,
    "attn_output_bias": True,
    "ffn_bias": True,
    "gated": False,
}
_SUM_NORMS = ("attn_output_norm", "layer_output_norm")
_BERT = _PLAIN | {
    "encoder": True,
    "pre_norms": (),
    "post_norms": _SUM_NORMS,
    "output_norm": False,
    "tied_output": True,
    "text_types": 2,
    "input_norm": True,
}
_BARE = {"attention_bias": False, "attn_output_bias": False, "ffn_bias": False}
_SECTIONS = {"rope.dimension_sections": [3, 3, 2, 0]}
_POST_NORMS = ("post_attention_norm", "post_ffw_norm")
_WINDOW = "attention.sliding_window"
_GRANITE = {
    "embedding_scale": 3.0,
    "residual_scale": 0.4,
    "attention.scale": 0.3,
    "logit_scale": 2.5,
}
_HALF_OF_16 = {"rope.dimension_count": 8}
_EXPERTS: dict[str, Any] = {"expert_feed_forward_length": 32}

TRAITS: dict[str, Traits] = {
    "llama": Traits(),
    "qwen2": Traits(attention_bias=True),
    "qwen3": Traits(qk_norm="head"),
    "qwen2moe": Traits(
        attention_bias=True,
        num_experts=4,
        shared_expert="gated",
        keys={**_EXPERTS, "expert_shared_feed_forward_length": 96},
    ),
    "qwen3moe": Traits(qk_norm="head", num_experts=4, keys=_EXPERTS),
    "gemma": Traits(tied_output=True),
    "gemma2": Traits(
        post_norms=_POST_NORMS,
        tied_output=True,
        keys={_WINDOW: 20, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 10.0},
    ),
    "gemma3": Traits(
        post_norms=_POST_NORMS,
        qk_norm="head",
        tied_output=True,
        num_layers=6,
        keys={_WINDOW: 20, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "phi3": Traits(
        fused_qkv=True,
        fused_gate_up=True,
        long_factors=True,
        keys={
            "rope.scaling.original_context_length": 128,
            "rope.scaling.attn_factor": 1.2,
            _WINDOW: 20,  # which nobody uses
        },
    ),
    "phimoe": Traits(
        **_LAYER_NORM,
        rms_epsilon=True,
        unlike_peer=True,
        attention_bias=True,
        attn_output_bias=True,
        output_bias=True,
        long_factors=True,
        num_experts=4,
        keys={"rope.scaling.original_context_length": 128, "rope.scaling.attn_factor": 1.2},
    ),
    "gpt-oss": Traits(
        pre_norms=("attn_norm", "post_attention_norm"),
        attention_bias=True,
        attn_output_bias=True,
        sinks=True,
        num_experts=4,
        expert_bias=True,
        keys={**_EXPERTS, _WINDOW: 20},
    ),
    "granite": Traits(keys=_GRANITE),
    "granitemoe": Traits(
        num_experts=4,
        shared_expert="plain",
        keys={**_GRANITE, "expert_shared_feed_forward_length": 96},
    ),
    "olmo2": Traits(pre_norms=(), post_norms=_POST_NORMS, qk_norm="whole"),
    "olmoe": Traits(qk_norm="whole", num_experts=4),
    "smollm3": Traits(num_layers=4),
    "glm4": Traits(
        post_norms=_POST_NORMS, attention_bias=True, fused_gate_up=True, keys=_HALF_OF_16
    ),
    "glm4moe": Traits(
        pre_norms=("attn_norm", "post_attention_norm"),
        attention_bias=True,
        num_experts=4,
        num_dense_layers=1,
        choice_bias=True,
        shared_expert="plain",
        num_layers=3,
        keys={
            **_EXPERTS,
            **_HALF_OF_16,
            "expert_shared_count": 2,
            "leading_dense_block_count": 1,
            "expert_weights_norm": True,
            "expert_weights_scale": 1.5,
        },
    ),
    "deepseek": Traits(
        num_experts=4,
        num_dense_layers=1,
        shared_expert="plain",
        keys={
            **_EXPERTS,
            "expert_shared_count": 1,
            "leading_dense_block_count": 1,
            "expert_weights_scale": 1.0,
        },
    ),
    "deepseek2": Traits(
        latent=True,
        num_experts=4,
        num_dense_layers=1,
        choice_bias=True,
        shared_expert="plain",
        keys={
            **_EXPERTS,
            "expert_shared_count": 1,
            "leading_dense_block_count": 1,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 2.5,
            "attention.q_lora_rank": 48,
            "attention.kv_lora_rank": 32,
            "attention.key_length": 40,
            "attention.value_length": 32,
            "attention.key_length_mla": 24,
            "attention.value_length_mla": 16,
            "rope.dimension_count": 8,
        },
    ),
    "dots1": Traits(
        qk_norm="head",
        num_experts=4,
        num_dense_layers=1,
        choice_bias=True,
        shared_expert="plain",
        keys={
            **_EXPERTS,
            "expert_shared_count": 1,
            "leading_dense_block_count": 1,
            "expert_gating_func": 2,
            "expert_weights_norm": True,
            "expert_weights_scale": 0.7,
        },
    ),
    "internlm2": Traits(),
    "ernie4_5": Traits(),
    "exaone": Traits(),
    "seed_oss": Traits(pre_norms=("attn_norm", "post_attention_norm"), attention_bias=True),
    "chatglm": Traits(attention_bias=True, fused_qkv=True, fused_gate_up=True, keys=_HALF_OF_16),
    "stablelm": Traits(**_LAYER_NORM, attention_bias=True, keys=_HALF_OF_16),
    "starcoder2": Traits(**_PLAIN),
    "command-r": Traits(
        layer_norm=True, pre_norms=("attn_norm",), tied_output=True, keys={"logit_scale": 0.25}
    ),
    "cohere2": Traits(
        layer_norm=True,
        pre_norms=("attn_norm",),
        tied_output=True,
        num_layers=4,
        keys={"logit_scale": 0.25, _WINDOW: 20},
    ),
    "falcon": Traits(**_LAYER_NORM, pre_norms=("attn_norm",), fused_qkv=True, gated=False),
    "phi2": Traits(**_PLAIN | {"pre_norms": ("attn_norm",), "output_bias": True}),
    "nemotron": Traits(**_LAYER_NORM, gated=False),
    "arcee": Traits(gated=False),
    "minimax-m2": Traits(
        qk_norm="whole",
        num_experts=4,
        choice_bias=True,
        keys={**_EXPERTS, **_HALF_OF_16, "expert_gating_func": 2},
    ),
    "gptneox": Traits(**_PLAIN, fused_qkv=True, keys={"use_parallel_residual": True}),
    "codeshell": Traits(**_PLAIN, fused_qkv=True),
    "starcoder": Traits(**_PLAIN, fused_qkv=True, rotates=False, position_table=True),
    "exaone4": Traits(pre_norms=(), post_norms=_POST_NORMS, qk_norm="head"),
    "qwen2vl": Traits(attention_bias=True, keys=_SECTIONS),
    "qwen3vl": Traits(qk_norm="head", keys=_SECTIONS),
    "qwen3vlmoe": Traits(qk_norm="head", num_experts=4, keys=_EXPERTS | _SECTIONS),
    "gpt2": Traits(**_PLAIN, fused_qkv=True, rotates=False, position_table=True),
    "bert": Traits(**_BERT | {"rotates": False}, position_table=True),
    "nomic-bert": Traits(**_BERT | _BARE | {"gated": True}, fused_qkv=True),
    "jina-bert-v2": Traits(**_BERT | {"gated": True, "rotates": False}),
    "jina-bert-v3": Traits(**_BERT, fused_qkv=True),
    "modern-bert": Traits(
        layer_norm=True,
        encoder=True,
        input_norm=True,
        bare_first_layer=True,
        tied_output=True,
        fused_qkv=True,
        fused_gate_up=True,
        num_layers=4,
        keys={_WINDOW: 20, "rope.freq_base_swa": 500.0},
    ),
    "eurobert": Traits(encoder=True, tied_output=True),
}
