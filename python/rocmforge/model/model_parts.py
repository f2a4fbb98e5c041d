"""A model in the parts that are placed on devices: embedding, layers, output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rocmforge import _native
from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.decoder_spec import decoder_spec
from rocmforge.model.rope import rope_frequencies
from rocmforge.model.tensors import expected_tensors

_EMBEDDING: Final = "token_embd.weight"


@dataclass(frozen=True, slots=True)
class ModelPart:
    """ "embedding", "layer 0" and on, or "output": the final norm and the output matrix."""

    name: str
    tensor_bytes: dict[str, int]  # by tensor; a model's one matrix for both ends is in both
    formats: tuple[str, ...]  # of its matrices, each once
    problem: str | None  # why no GPU kernel takes it

    @property
    def is_layer(self) -> bool:
        return self.name.startswith("layer ")


def model_parts(file: GGUFFile, config: ModelConfig) -> list[ModelPart]:
    """In the order of the forward pass."""
    names: dict[str, list[str]] = {"embedding": [_EMBEDDING]}
    names |= {f"layer {layer}": [] for layer in range(config.num_layers)}
    names["output"] = [] if "output.weight" in file.tensors else [_EMBEDDING]
    for spec in expected_tensors(config):
        if spec.name in file.tensors and spec.name != _EMBEDDING:
            is_layer = spec.name.startswith("blk.")
            names[f"layer {spec.name.split('.')[1]}" if is_layer else "output"].append(spec.name)
    native_spec = decoder_spec(config, rope_frequencies(file, config.rope))
    attention = _native.gpu.attention_problem(native_spec)
    return [
        _part(file, name, tensors, attention if name.startswith("layer ") else "")
        for name, tensors in names.items()
    ]


def weight_bytes(parts: Iterable[ModelPart]) -> int:
    """Of the parts together on one device."""
    tensors: dict[str, int] = {}
    for part in parts:
        tensors |= part.tensor_bytes
    return sum(tensors.values())


def _part(file: GGUFFile, name: str, tensors: list[str], attention: str) -> ModelPart:
    matrices = [t for t in (file.tensors[name] for name in tensors) if len(t.shape) > 1]
    columns = sorted({matrix.shape[0] for matrix in matrices})
    problems = [attention, *(_native.gpu.columns_problem(count) for count in columns)]
    return ModelPart(
        name=name,
        tensor_bytes={name: file.tensors[name].nbytes for name in tensors},
        formats=tuple(dict.fromkeys(matrix.type.name for matrix in matrices)),
        problem=next(filter(None, problems), None),
    )
