"""The smallest models that are whole, as a start for damaging them."""

from __future__ import annotations

import struct
from typing import Any

from gguf_bytes.writer import F32, STRING, U32, GGUFBytes, Tensor, array, scalar, string

HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 32, 4, 2, 64, 8
HEAD_DIM = HIDDEN // HEADS
SIZES = {
    "vocab_size": VOCAB,
    "context_length": 64,
    "embedding_length": HIDDEN,
    "block_count": 1,
    "feed_forward_length": FFN,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "rope.dimension_count": HEAD_DIM,
}
FLOATS = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0}


def f32_tensor(name: str, *dims: int) -> Tensor:
    count = 1
    for dim in dims:
        count *= dim
    return Tensor(name.encode(), list(dims), struct.pack("<f", 0.125) * count)


def tiny_model(architecture: str = "llama", *, layers: int = 1, experts: int = 0) -> GGUFBytes:
    """A float32 model with tied embeddings and, of the vocabulary, the tokens alone."""
    model = GGUFBytes()
    model.set("general.architecture", string(architecture))
    for name, value in {**SIZES, "block_count": layers}.items():
        model.set(f"{architecture}.{name}", scalar(U32, value))
    for name, number in FLOATS.items():
        model.set(f"{architecture}.{name}", scalar(F32, number))
    if experts:
        model.set(f"{architecture}.expert_count", scalar(U32, experts))
        model.set(f"{architecture}.expert_used_count", scalar(U32, min(2, experts)))
    model.set("tokenizer.ggml.tokens", array(STRING, [f"<{i}>" for i in range(VOCAB)]))
    model.tensors.append(f32_tensor("token_embd.weight", HIDDEN, VOCAB))
    model.tensors.append(f32_tensor("output_norm.weight", HIDDEN))
    for layer in range(layers):
        model.tensors += _layer(architecture, f"blk.{layer}.", experts)
    return model


def _layer(architecture: str, p: str, experts: int) -> list[Tensor]:
    kv_size = KV_HEADS * HEAD_DIM
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (HIDDEN,),
        "attn_q.weight": (HIDDEN, HIDDEN),
        "attn_k.weight": (HIDDEN, kv_size),
        "attn_v.weight": (HIDDEN, kv_size),
        "attn_output.weight": (HIDDEN, HIDDEN),
        "ffn_norm.weight": (HIDDEN,),
    }
    if architecture == "qwen2":
        shapes |= {"attn_q.bias": (HIDDEN,), "attn_k.bias": (kv_size,), "attn_v.bias": (kv_size,)}
    if architecture == "qwen3":
        shapes |= {"attn_q_norm.weight": (HEAD_DIM,), "attn_k_norm.weight": (HEAD_DIM,)}
    if experts:
        shapes |= {
            "ffn_gate_inp.weight": (HIDDEN, experts),
            "ffn_gate_exps.weight": (HIDDEN, FFN, experts),
            "ffn_up_exps.weight": (HIDDEN, FFN, experts),
            "ffn_down_exps.weight": (FFN, HIDDEN, experts),
        }
    else:
        shapes |= {
            "ffn_gate.weight": (HIDDEN, FFN),
            "ffn_up.weight": (HIDDEN, FFN),
            "ffn_down.weight": (FFN, HIDDEN),
        }
    return [f32_tensor(p + name, *dims) for name, dims in shapes.items()]


def split(model: GGUFBytes, count: int, **changes: Any) -> list[GGUFBytes]:
    """The model in `count` parts, tensors dealt round; the pairs are in the first.

    `changes` (no, total, tensors) replace the split keys of the last part, or of the first for
    `tensors`.
    """
    parts = [GGUFBytes() for _ in range(count)]
    parts[0].pairs = list(model.pairs)
    for index, tensor in enumerate(model.tensors):
        parts[index % count].tensors.append(tensor)
    for index, part in enumerate(parts):
        last = index == count - 1
        part.set("split.no", scalar(U32, changes.get("no", index) if last else index))
        part.set("split.count", scalar(U32, changes.get("total", count) if last else count))
    total = changes.get("tensors", len(model.tensors))
    parts[0].set("split.tensors.count", scalar(U32, total))
    return parts
