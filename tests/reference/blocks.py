"""Decoding of GGUF tensors to float64, through the `gguf` package's own NumPy decoders."""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType, quants

FORMATS = (
    "F32",
    "F16",
    "BF16",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_NL",
    "IQ4_XS",
    "MXFP4",
)


def decode(data: np.ndarray, weight_format: GGMLQuantizationType) -> np.ndarray:
    """Returns the weights as float64, rows last: (..., row bytes) -> (..., row length).

    A decoded weight is a float32 by the definition of every format, so nothing is rounded here.
    """
    return quants.dequantize(np.asarray(data), weight_format).astype(np.float64)
