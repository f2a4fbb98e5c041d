"""The architectures this build runs, as data: what sets one Llama-like model apart from another.

Names and requirements are those of llama.cpp's loaders (src/models). A new entry here is all that
a further architecture of this kind needs.
"""

from __future__ import annotations

import enum
import reprlib
from dataclasses import dataclass

from rocmforge.errors import UnsupportedError


class Presence(enum.Enum):
    """Whether the tensors of a step are in a file of the architecture."""

    NEVER = "never"
    OPTIONAL = "optional"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Architecture:
    name: str
    rope_interleaved: bool  # pairs (2i, 2i+1), as the converter permutes Llama weights; else halves
    qkv_bias: Presence = Presence.NEVER
    attn_output_bias: Presence = Presence.NEVER
    ffn_bias: Presence = Presence.NEVER
    qk_norm: Presence = Presence.NEVER  # RMS norm of each query and key head
    rope_factors: Presence = Presence.NEVER  # rope_freqs.weight: Llama 3's divisors
    experts: bool = False  # Mixtral's: softmax over all, the best few, renormalised


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        # Llama 1 to 3.x, Mistral, Mixtral, Yi, TinyLlama.
        Architecture(
            "llama",
            rope_interleaved=True,
            qkv_bias=Presence.OPTIONAL,
            attn_output_bias=Presence.OPTIONAL,
            ffn_bias=Presence.OPTIONAL,
            rope_factors=Presence.OPTIONAL,
            experts=True,
        ),
        # Qwen 2 and 2.5.
        Architecture("qwen2", rope_interleaved=False, qkv_bias=Presence.ALWAYS),
        Architecture(
            "qwen3",
            rope_interleaved=False,
            qkv_bias=Presence.OPTIONAL,
            qk_norm=Presence.ALWAYS,
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
