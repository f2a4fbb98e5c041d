"""Everything that can be said of a model file without loading it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.rope import rope_frequencies
from rocmforge.model.tensors import check_tensors


@dataclass(frozen=True, slots=True)
class TypeTotals:
    num_tensors: int
    num_parameters: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class ModelReport:
    path: Path
    version: int  # of the GGUF format
    num_files: int
    size_bytes: int  # of all files
    config: ModelConfig
    num_tensors: int
    num_parameters: int
    tensor_bytes: int
    types: dict[str, TypeTotals]  # by tensor type, largest first
    unused_tensors: tuple[str, ...]


def check_model(path: str | os.PathLike[str]) -> ModelReport:
    """Opens a model, checks all but the values of its weights, and closes it.

    Raises InvalidArgumentError for a path that cannot be a model, ModelFileError for a damaged file
    and UnsupportedError for a valid one that this build cannot run.
    """
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        unused = check_tensors(file, config)
        rope_frequencies(file, config.rope, config.context_length)
        types = _totals(file)
        return ModelReport(
            path=file.path,
            version=file.version,
            num_files=file.num_files,
            size_bytes=file.size_bytes,
            config=config,
            num_tensors=len(file.tensors),
            num_parameters=sum(total.num_parameters for total in types.values()),
            tensor_bytes=sum(total.nbytes for total in types.values()),
            types=types,
            unused_tensors=tuple(unused),
        )


def _totals(file: GGUFFile) -> dict[str, TypeTotals]:
    totals: dict[str, TypeTotals] = {}
    for tensor in file.tensors.values():
        total = totals.get(tensor.type.name, TypeTotals(0, 0, 0))
        totals[tensor.type.name] = TypeTotals(
            total.num_tensors + 1,
            total.num_parameters + tensor.num_elements,
            total.nbytes + tensor.nbytes,
        )
    return dict(sorted(totals.items(), key=lambda item: -item[1].nbytes))
