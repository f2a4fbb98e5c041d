"""Which format llama-quantize gives each tensor of a dense model.

The rules are those of llama.cpp's src/llama-quant.cpp without an importance matrix: the output
matrix and the tensors that hurt most get more bits, and where a row is no whole number of blocks
a format of 32 weights a block stands in.
"""

from __future__ import annotations

from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from random_models.blocks import FLOATS
from rocmforge.model.quantization_types import FALLBACK

# Of most matrices, and the number of the mixture in general.file_type. There is no file type
# for MXFP4 in dense layers; they are written like any other format, the output matrix as Q8_0.
MIXTURES = {
    "F32": ("F32", LlamaFileType.ALL_F32),
    "F16": ("F16", LlamaFileType.MOSTLY_F16),
    "BF16": ("BF16", LlamaFileType.MOSTLY_BF16),
    "Q4_0": ("Q4_0", LlamaFileType.MOSTLY_Q4_0),
    "Q4_1": ("Q4_1", LlamaFileType.MOSTLY_Q4_1),
    "Q5_0": ("Q5_0", LlamaFileType.MOSTLY_Q5_0),
    "Q5_1": ("Q5_1", LlamaFileType.MOSTLY_Q5_1),
    "Q8_0": ("Q8_0", LlamaFileType.MOSTLY_Q8_0),
    "Q2_K": ("Q2_K", LlamaFileType.MOSTLY_Q2_K),
    "Q3_K_M": ("Q3_K", LlamaFileType.MOSTLY_Q3_K_M),
    "Q4_K_M": ("Q4_K", LlamaFileType.MOSTLY_Q4_K_M),
    "Q5_K_M": ("Q5_K", LlamaFileType.MOSTLY_Q5_K_M),
    "Q6_K": ("Q6_K", LlamaFileType.MOSTLY_Q6_K),
    "IQ4_NL": ("IQ4_NL", LlamaFileType.MOSTLY_IQ4_NL),
    "IQ4_XS": ("IQ4_XS", LlamaFileType.MOSTLY_IQ4_XS),
    "MXFP4": ("MXFP4", LlamaFileType.MOSTLY_MXFP4_MOE),
}


@dataclass(frozen=True)
class Dense:
    """What the choice depends on besides the tensor."""

    num_layers: int
    queries_per_kv_head: int


def tensor_type(mixture: str, part: str, layer: int, columns: int, model: Dense) -> str:
    """The format of `part`, as "attn_v", in `layer`; "output" is the matrix of the logits."""
    if part == "output":
        return _output_type(mixture, columns)
    chosen = _chosen(mixture, part, layer, model)
    if columns % _block_weights(chosen):
        chosen = FALLBACK.get(chosen, "F16")
    return "F16" if columns % _block_weights(chosen) else chosen


def _output_type(mixture: str, columns: int) -> str:
    if mixture in FLOATS:
        return mixture
    if columns % 256 == 0 and mixture not in ("Q8_0", "MXFP4"):
        return "Q6_K"
    return "F16" if columns % 32 else "Q8_0"


def _chosen(mixture: str, part: str, layer: int, model: Dense) -> str:
    usual = MIXTURES[mixture][0]
    n = model.num_layers
    grouped = model.queries_per_kv_head >= 4
    if part == "attn_v":
        if mixture == "Q2_K":
            return "Q4_K" if grouped else "Q3_K"
        if mixture == "Q3_K_M":
            return "Q5_K" if layer < 2 else "Q4_K"
        if mixture in ("IQ4_NL", "IQ4_XS") and grouped:
            return "Q5_K"
        if mixture in ("Q4_K_M", "Q5_K_M") and _deserves_more(layer, n):
            return "Q6_K"
    elif part == "ffn_down":
        if mixture == "Q2_K":
            return "Q3_K"
        if mixture == "Q3_K_M":
            return "Q5_K" if layer < n // 16 else "Q4_K"
        if mixture in ("IQ4_NL", "IQ4_XS") and layer < n // 8:
            return "Q5_K"
        if mixture in ("Q4_K_M", "Q5_K_M") and _deserves_more(layer, n):
            return "Q6_K"
    elif part == "attn_output":
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K"}.get(mixture, usual)
    return usual


def _deserves_more(layer: int, num_layers: int) -> bool:
    """The first and the last eighth of the layers, and every third between."""
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def _block_weights(weight_format: str) -> int:
    return GGML_QUANT_SIZES[GGMLQuantizationType[weight_format]][0]
