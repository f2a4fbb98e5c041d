"""Reading of GGUF model files: strict, over mapped memory."""

from __future__ import annotations

from rocmforge.gguf.file import GGUFFile
from rocmforge.gguf.metadata import Metadata
from rocmforge.gguf.tensor_types import TensorType
from rocmforge.gguf.tensors import TensorInfo

__all__ = ["GGUFFile", "Metadata", "TensorInfo", "TensorType"]
