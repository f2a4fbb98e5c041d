"""Architectures whose tokens see those after them: they make embeddings and generate nothing.

Names and requirements are those of llama.cpp's loaders (src/models).
"""

from __future__ import annotations

from dataclasses import replace

from rocmforge.model.architecture import Activation, Architecture, Norm, Presence, QkNorm, Windows

_OPTIONAL, _ALWAYS = Presence.OPTIONAL, Presence.ALWAYS

# BERT (arXiv:1810.04805), RoBERTa and XLM-RoBERTa: bge, e5, gte, MiniLM, mxbai, arctic.
_BERT = Architecture(
    "bert",
    rope_interleaved=False,
    encoder=True,
    rotates=False,
    norm=Norm.LAYER,
    norm_bias=_ALWAYS,
    pre_norms=False,
    sum_norms=True,
    input_norm=True,
    text_types=True,
    qkv_bias=_OPTIONAL,
    attn_output_bias=_OPTIONAL,
    ffn_bias=_OPTIONAL,
    activation=Activation.GELU,
)

ENCODERS = (
    _BERT,
    # nomic-embed-text 1 and 1.5.
    replace(
        _BERT,
        name="nomic-bert",
        rotates=True,
        ffn_bias=Presence.NEVER,
        activation=Activation.SILU_GATED,
    ),
    replace(_BERT, name="jina-bert-v3", rotates=True),
    # jina-embeddings-v2.
    replace(
        _BERT,
        name="jina-bert-v2",
        alibi=True,
        attn_norm_2=True,
        qk_norm=_OPTIONAL,
        qk_norm_over=QkNorm.WHOLE,
        fused_gate_up=_OPTIONAL,
        activation=Activation.GELU_GATED,
    ),
    # ModernBERT (arXiv:2412.13663).
    Architecture(
        "modern-bert",
        rope_interleaved=False,
        encoder=True,
        norm=Norm.LAYER,
        first_attn_norm=_OPTIONAL,
        input_norm=True,
        fused_gate_up=_ALWAYS,
        activation=Activation.GELU_GATED,
        windows=Windows(period=3, full_first=True),
    ),
    Architecture("eurobert", rope_interleaved=False, encoder=True),
)
