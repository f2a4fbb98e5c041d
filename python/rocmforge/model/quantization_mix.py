"""The format that each tensor of a file gets in a type (quantization_types.py)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rocmforge import _native
from rocmforge.gguf import GGUFFile, TensorInfo, TensorType
from rocmforge.model.quantization_types import FALLBACK, FLOATS, Place, QuantizationType

# Matrices that stay as they are: routers and tables of positions are small and sensitive, the
# kernels of convolutions are read by code that knows floats only.
_KEPT = re.compile(
    r"_norm\.weight$|ffn_gate_inp|position_embd|token_types|attn_rel_b|ssm_conv1d|shortconv\.conv"
    r"|altup|laurel|per_layer_model_proj|time_mix|ssm_(a|d|dt)\b"
)
_LAYER = re.compile(r"blk\.(\d+)\.")
_VALUE = re.compile(r"\.attn_(v|kv_b|qkv)\.weight$")
_MAX_LAYERS = 1 << 16
_EXPERTS_OF_MIXTRAL = 8
_LAYERS_OF_70B = 80


class Mix:
    """Formats of the tensors of one file."""

    def __init__(
        self, file: GGUFFile, chosen: QuantizationType, *, has_importance: bool, pure: bool
    ) -> None:
        self._chosen = chosen
        self._pure = pure or chosen.format in FLOATS
        self._has_importance = has_importance
        self._tied = "output.weight" not in file.tensors
        self._architecture = file.metadata.string("general.architecture", "")
        values = [name for name in file.tensors if _VALUE.search(name)]
        self._value_index = {name: i for i, name in enumerate(sorted(values, key=_layer))}
        self._num_layers = self._number(file, "block_count", _MAX_LAYERS) or 1
        heads = self._number(file, "attention.head_count", _MAX_LAYERS)
        kv_heads = self._number(file, "attention.head_count_kv", _MAX_LAYERS)
        self._heads_per_kv_head = heads // kv_heads if kv_heads else 1
        self._num_experts = self._number(file, "expert_count", _MAX_LAYERS)

    def format_of(self, tensor: TensorInfo) -> TensorType:
        """That of the file where it is not to be changed."""
        if not tensor.name.endswith("weight") or _KEPT.search(tensor.name):
            return tensor.type
        if tensor.num_elements == tensor.shape[0] or tensor.type.is_integer:
            return tensor.type
        name = self._chosen.format if self._pure else self._mixed(tensor)
        while tensor.shape[0] % _native.FORMATS[name][1]:
            name = FALLBACK.get(name, "F16")
        return TensorType[name]

    def _mixed(self, tensor: TensorInfo) -> str:
        name, chosen = tensor.name, self._chosen
        if name == "output.weight" or (self._tied and name == "token_embd.weight"):
            return self._output(tensor)
        if chosen.format == "MXFP4":
            return "MXFP4" if "_exps." in name else "Q8_0"
        return self._of_layer(name) or chosen.format

    def _output(self, tensor: TensorInfo) -> str:
        block = _native.FORMATS[self._chosen.format][1]
        if self._chosen.format in ("MXFP4", "Q8_0") or self._architecture == "falcon":
            return "Q8_0"
        return "Q8_0" if tensor.shape[0] % block else "Q6_K"

    def _of_layer(self, name: str) -> str | None:
        chosen, place = self._chosen, self._place(name)
        eight_experts = place.num_experts == _EXPERTS_OF_MIXTRAL
        if _VALUE.search(name):
            if eight_experts:
                return "Q8_0"
            picked = (chosen.value and chosen.value(place)) or chosen.format
            shared = place.num_layers == _LAYERS_OF_70B and place.heads_per_kv_head > 1
            return "Q5_K" if shared and picked in ("Q3_K", "Q4_K") else picked
        if name.endswith("attn_k.weight") and eight_experts:
            return "Q8_0"
        if "ffn_down" in name and chosen.down is not None:
            return chosen.down(place)
        if name.endswith("attn_output.weight"):
            if self._architecture == "falcon":
                return "Q4_K" if chosen.file_type == _Q3_K_L else None
            if eight_experts:
                return "Q5_K" if chosen.small else None
            return chosen.attention_output
        return None

    def _place(self, name: str) -> Place:
        return Place(
            layer=_layer(name),
            num_layers=self._num_layers,
            value_index=self._value_index.get(name, 0),
            num_values=len(self._value_index),
            heads_per_kv_head=self._heads_per_kv_head,
            num_experts=self._num_experts,
            architecture=self._architecture,
            has_importance=self._has_importance,
        )

    def _number(self, file: GGUFFile, name: str, maximum: int) -> int:
        """A count, of a list the first one that is not 0; 0 where there is none."""
        key = f"{self._architecture}.{name}"
        if file.metadata.is_array(key):
            values: Iterator[int] = (int(v) for v in file.metadata.ints(key) if v > 0)
            return next(values, 0)
        return file.metadata.uint(key, 0, maximum=maximum)


_Q3_K_L = 13


def _layer(name: str) -> int:
    found = _LAYER.match(name)
    return int(found[1]) if found else 0
