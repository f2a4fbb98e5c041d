"""The metadata of tiny models, vocabularies aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gguf import GGUFWriter

if TYPE_CHECKING:
    from reference.tiny_models import TinyModel

LLAMA3_FACTOR = 8.0


def write_metadata(writer: GGUFWriter, model: TinyModel) -> None:
    traits = model.traits
    writer.add_name(f"tiny {model.weight_format}")
    writer.add_context_length(model.context_length)
    writer.add_block_count(traits.num_layers)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.inner)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(1 if traits.latent else model.num_kv_heads)
    if traits.layer_norm and not traits.rms_epsilon:
        writer.add_layer_norm_eps(model.epsilon)
    else:
        writer.add_layer_norm_rms_eps(model.epsilon)
    if model.head_dim is not None:
        writer.add_key_length(model.head_size)
        writer.add_value_length(model.head_size)
    if traits.rotates:
        if "rope.dimension_count" not in traits.keys:
            writer.add_rope_dimension_count(model.head_size)
        writer.add_rope_freq_base(model.rope_base)
    if traits.num_experts:
        writer.add_expert_count(traits.num_experts)
        writer.add_expert_used_count(model.num_experts_used)
    if traits.encoder:
        writer.add_causal_attention(False)
    if traits.text_types:
        writer.add_token_type_count(traits.text_types)
    if model.rope_scaling not in (None, "llama3"):
        _write_rope_scaling(writer, model, model.rope_scaling)
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
    }
    for name, value in traits.keys.items():
        add.get(type(value), writer.add_array)(f"{model.architecture}.{name}", value)


def _write_rope_scaling(writer: GGUFWriter, model: TinyModel, scaling: str) -> None:
    kind = scaling.partition("-")[0]
    prefix = f"{model.architecture}.rope.scaling"
    writer.add_string(f"{prefix}.type", kind)
    writer.add_rope_scaling_factor(LLAMA3_FACTOR if kind == "llama3" else 4.0)
    writer.add_rope_scaling_orig_ctx_len(model.context_length // 4)
    if scaling == "yarn-attn":
        writer.add_rope_scaling_attn_factors(0.75)
    if scaling == "yarn-betas":
        writer.add_float32(f"{prefix}.yarn_beta_fast", 24.0)
        writer.add_float32(f"{prefix}.yarn_beta_slow", 2.0)
