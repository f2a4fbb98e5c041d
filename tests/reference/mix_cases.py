"""Files whose tensors are small and all zero, for asking who gives which of them which format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gguf_bytes.writer import F32, U32, GGUFBytes, Tensor, scalar, string

F16 = 1
DENSE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
EXPERTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate_inp")
EXPERTS += ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
FUSED = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class MixCase:
    architecture: str
    num_layers: int
    matrices: tuple[str, ...]
    heads: int = 8
    kv_heads: int = 8
    experts: int = 0
    tied: bool = False
    columns: int = 256
    narrow: tuple[str, ...] = ()  # matrices with rows of 96 weights

    def build(self) -> bytes:
        architecture = self.architecture
        keys = {
            "block_count": scalar(U32, self.num_layers),
            "context_length": scalar(U32, 128),
            "embedding_length": scalar(U32, 256),
            "feed_forward_length": scalar(U32, 512),
            "attention.head_count": scalar(U32, self.heads),
            "attention.head_count_kv": scalar(U32, self.kv_heads),
            "attention.layer_norm_epsilon": scalar(F32, 1e-5),
            "attention.layer_norm_rms_epsilon": scalar(F32, 1e-5),
            "vocab_size": scalar(U32, 2),
        }
        if self.experts:
            keys["expert_count"] = scalar(U32, self.experts)
            keys["expert_used_count"] = scalar(U32, 2)
        file = GGUFBytes().set("general.architecture", string(architecture))
        for name, value in keys.items():
            file.set(f"{architecture}.{name}", value)
        file.tensors = [self._tensor("token_embd")]
        if not self.tied:
            file.tensors.append(self._tensor("output"))
        file.tensors.append(Tensor(b"output_norm.weight", [256], bytes(1024)))
        for layer in range(self.num_layers):
            norm = f"blk.{layer}.attn_norm.weight".encode()
            file.tensors.append(Tensor(norm, [256], bytes(1024)))
            file.tensors += [self._tensor(f"blk.{layer}.{name}") for name in self.matrices]
        return file.build()

    def _tensor(self, name: str) -> Tensor:
        part = name.rpartition(".")[2]
        dims = [96 if part in self.narrow else self.columns, 2]
        if part.endswith("_exps"):
            dims.append(self.experts)
        count = dims[0] * 2 * (dims[2] if len(dims) > 2 else 1)
        return Tensor(f"{name}.weight".encode(), dims, bytes(2 * count), F16)


CASES = {
    "llama, few heads a KV head": MixCase("llama", 20, DENSE),
    "llama, four heads a KV head": MixCase("llama", 17, DENSE, kv_heads=2),
    "llama, one layer": MixCase("llama", 1, DENSE, tied=True),
    "llama, narrow rows": MixCase("llama", 9, DENSE, narrow=("ffn_down", "attn_v", "output")),
    "llama, 80 layers": MixCase("llama", 80, DENSE, heads=16, kv_heads=2),
    "mixtral": MixCase("llama", 16, EXPERTS, kv_heads=2, experts=8),
    "qwen3moe": MixCase("qwen3moe", 12, EXPERTS, experts=16),
    "phi3": MixCase("phi3", 16, FUSED),
    "falcon": MixCase("falcon", 32, FUSED, kv_heads=1),
}


def compact(formats: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By the name without its layer: the formats in order of layers, one where all are equal."""
    found: dict[str, list[str]] = {}
    for name, weight_format in formats:
        parts = name.split(".")
        key = ".".join(parts[2:]) if parts[0] == "blk" else name
        found.setdefault(key, []).append(weight_format)
    return {
        key: names[0] if len(set(names)) == 1 else " ".join(names) for key, names in found.items()
    }
