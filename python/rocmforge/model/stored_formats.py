"""Matrices in formats that no kernel multiplies are expanded to Q8_0 as they are loaded.

That costs a rounding to 8 bits, far below the error of these formats of two bits or so, and the
memory that they save on the disk; in exchange every kernel of every device runs them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile, TensorInfo
from rocmforge.model.host import default_threads

EXPANDED = "Q8_0"


def loaded_format(tensor: TensorInfo) -> str:
    """The name of the format that a matrix has in memory."""
    return EXPANDED if tensor.type.name in _native.STORED_FORMATS else tensor.type.name


def loaded_bytes(tensor: TensorInfo) -> int:
    """Of a tensor in memory."""
    if tensor.type.name not in _native.STORED_FORMATS:
        return tensor.nbytes
    _, block_weights, block_bytes = _native.FORMATS[EXPANDED]
    return tensor.num_elements // block_weights * block_bytes


def expanded(file: GGUFFile, tensor: TensorInfo) -> npt.NDArray[np.uint8]:
    """The bytes of the matrix in Q8_0, 1-D; ModelFileError if a weight is not finite."""
    rows = file.tensor_data(tensor.name).reshape(tensor.num_elements // tensor.shape[0], -1)
    quantizer = _native.Quantizer(default_threads())
    try:
        return quantizer.convert(tensor.type.name, rows, EXPANDED).reshape(-1)
    except ModelFileError as error:
        msg = f"{file.path}: {error}"
        raise ModelFileError(msg, offset=tensor.offset, key=tensor.name) from error
