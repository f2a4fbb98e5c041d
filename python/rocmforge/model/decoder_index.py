"""What a program without Python needs to run a model: the forward pass as data, and where each
weight lies. `native/api/index.hpp` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rocmforge import _native
from rocmforge.errors import UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.native_spec import decoder_spec
from rocmforge.model.tensors import TensorSpec, expected_tensors


def decoder_index(file: GGUFFile, config: ModelConfig) -> dict[str, Any]:
    """Plain data: `spec` by the names of the native DecoderSpec, `weights` under the decoder's names
    with shape (matrices, rows, columns), `max_model_len` that the rotations are computed for.

    Raises UnsupportedError for a file with weights that loading expands: no program can map them.
    """
    if stored := sorted({t.type.name for t in file.tensors.values()} & set(_native.STORED_FORMATS)):
        msg = f"weights of {', '.join(stored)} are expanded at load; `rocmforge quantize` the file"
        raise UnsupportedError(msg)
    specs = [spec for spec in expected_tensors(config) if spec.name in file.tensors]
    return {
        "max_model_len": config.context_length,
        "spec": _plain(decoder_spec(file, config, config.context_length)),
        "weights": [weight for spec in specs for weight in _weights(file, spec)],
    }


def _weights(file: GGUFFile, spec: TensorSpec) -> Iterator[dict[str, Any]]:
    """As native_weights() cuts a tensor."""
    tensor = file.tensors[spec.name]
    columns, rows, matrices = (*spec.shape, 1, 1)[:3]
    # The rows of a vector's parts are its elements.
    across = spec.kind == "vector" and bool(spec.parts)
    unit = 1 if across else columns
    kind = tensor.type
    begin = 0
    for name, size in spec.parts or ((spec.name, rows),):
        nbytes = matrices * size * unit // kind.block_weights * kind.block_bytes
        yield {
            "name": name,
            "type": kind.name,
            "shape": [matrices, 1, size] if across else [matrices, size, columns],
            "file": str(tensor.file),
            "offset": tensor.offset + begin,
            "nbytes": nbytes,
        }
        begin += nbytes


def _plain(value: Any) -> Any:
    """A native struct by its fields, an enumeration's member by its name."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__members__"):
        return value.name
    names = [name for name in dir(value) if not name.startswith("_")]
    return {name: _plain(getattr(value, name)) for name in names}
