"""GGUF model files: read strictly, over mapped memory; written whole or not at all."""

from __future__ import annotations

from rocmforge.gguf.file import GGUFFile
from rocmforge.gguf.metadata import Metadata
from rocmforge.gguf.tensor_types import TensorType
from rocmforge.gguf.tensors import TensorInfo
from rocmforge.gguf.writer import GGUFWriter, NewTensor

__all__ = ["GGUFFile", "GGUFWriter", "Metadata", "NewTensor", "TensorInfo", "TensorType"]
