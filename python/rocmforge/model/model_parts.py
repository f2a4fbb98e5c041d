"""A model in the parts that are placed on devices: embedding, layers, output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rocmforge import _native
from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.native_spec import decoder_spec
from rocmforge.model.stored_formats import loaded_bytes, loaded_format
from rocmforge.model.tensors import TensorSpec, expected_tensors

_EMBEDDING: Final = "token_embd.weight"
_INPUT: Final = ("token_embd", "token_embd_norm", "token_types", "position_embd")


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
    specs: dict[str, list[TensorSpec]] = {"embedding": []}
    specs |= {f"layer {layer}": [] for layer in range(config.num_layers)}
    specs["output"] = []
    for spec in expected_tensors(config):
        if spec.name in file.tensors:
            specs[_part_of(spec.name)].append(spec)
            if spec.name == _EMBEDDING and config.causal and "output.weight" not in file.tensors:
                specs["output"].append(spec)
    problem = _native.gpu.model_problem(decoder_spec(file, config, config.context_length))
    return [
        _part(file, name, tensors, problem if name.startswith("layer ") else "")
        for name, tensors in specs.items()
    ]


def weight_bytes(parts: Iterable[ModelPart]) -> int:
    """Of the parts together on one device."""
    tensors: dict[str, int] = {}
    for part in parts:
        tensors |= part.tensor_bytes
    return sum(tensors.values())


def _part_of(tensor: str) -> str:
    if tensor.startswith("blk."):
        return f"layer {tensor.split('.')[1]}"
    return "embedding" if tensor.partition(".")[0] in _INPUT else "output"


def _part(file: GGUFFile, name: str, specs: list[TensorSpec], layer_problem: str) -> ModelPart:
    matrices = [file.tensors[spec.name] for spec in specs if spec.kind == "matrix"]
    columns = sorted({matrix.shape[0] for matrix in matrices})
    problems = [layer_problem, *(_native.gpu.columns_problem(count) for count in columns)]
    return ModelPart(
        name=name,
        tensor_bytes={spec.name: loaded_bytes(file.tensors[spec.name]) for spec in specs},
        formats=tuple(dict.fromkeys(loaded_format(matrix) for matrix in matrices)),
        problem=next(filter(None, problems), None),
    )
