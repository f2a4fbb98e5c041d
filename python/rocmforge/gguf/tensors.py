"""Checked tensor descriptions: known type, sane shape, a data range of its own inside the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rocmforge.errors import ModelFileError
from rocmforge.gguf.header import RawTensor
from rocmforge.gguf.tensor_types import TENSOR_TYPES, TensorType

# ggml holds dimensions and their product in signed 64-bit integers.
_MAX_ELEMENTS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    type: TensorType
    shape: tuple[int, ...]  # ggml's order: shape[0] is the length of a row, contiguous in memory
    offset: int  # in `file`
    nbytes: int
    file: Path

    @property
    def num_elements(self) -> int:
        count = 1
        for dim in self.shape:
            count *= dim
        return count


def locate_tensors(
    path: Path, raw_tensors: list[RawTensor], header_end: int, alignment: int, size: int
) -> list[TensorInfo]:
    """Descriptions in the order of the header, every range inside the `size` bytes of the file."""
    data_start = _align(header_end, alignment)
    tensors = [_locate(path, raw, data_start, alignment, size) for raw in raw_tensors]
    _check_contiguous(path, tensors, data_start, alignment)
    return tensors


def _locate(path: Path, raw: RawTensor, data_start: int, alignment: int, size: int) -> TensorInfo:
    tensor_type = TENSOR_TYPES.get(raw.type_id)
    if tensor_type is None:
        raise _error(path, raw, f"unknown tensor type {raw.type_id}")
    elements = 1
    for dim in raw.shape:
        elements *= dim
        if not 1 <= dim <= _MAX_ELEMENTS or elements > _MAX_ELEMENTS:
            raise _error(path, raw, f"the shape {list(raw.shape)} is not possible")
    if raw.shape[0] % tensor_type.block_weights:
        message = (
            f"rows of {raw.shape[0]} are not a whole number of {tensor_type.name} blocks "
            f"({tensor_type.block_weights} weights)"
        )
        raise _error(path, raw, message)
    if raw.offset % alignment:
        raise _error(path, raw, f"data offset {raw.offset} is no multiple of {alignment}")
    nbytes = elements // tensor_type.block_weights * tensor_type.block_bytes
    offset = data_start + raw.offset
    if offset + nbytes > size:
        message = f"the data ends at byte {offset + nbytes}, the file at {size}; is it truncated?"
        raise _error(path, raw, message)
    return TensorInfo(raw.name, tensor_type, raw.shape, offset, nbytes, path)


def _check_contiguous(
    path: Path, tensors: list[TensorInfo], data_start: int, alignment: int
) -> None:
    """Tensors fill the data section without overlap or gap, as ggml demands, in any order.

    A gap means that a type or a dimension was changed, or that the data is another tensor's.
    """
    expected = data_start
    for tensor in sorted(tensors, key=lambda t: t.offset):
        if tensor.offset != expected:
            what = "overlaps the data before it" if tensor.offset < expected else "follows a gap"
            msg = f"{path}: the tensor {what}: its data starts at {tensor.offset}, not {expected}"
            raise ModelFileError(msg, offset=tensor.offset, key=tensor.name)
        expected = _align(tensor.offset + tensor.nbytes, alignment)


def _align(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _error(path: Path, raw: RawTensor, message: str) -> ModelFileError:
    return ModelFileError(f"{path}: {message}", offset=raw.position, key=raw.name)
