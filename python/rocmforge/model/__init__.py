"""What a GGUF file means as a model: configuration, expected tensors, checks."""

from __future__ import annotations

from rocmforge.model.architecture import Architecture
from rocmforge.model.architectures import ARCHITECTURES
from rocmforge.model.check import ModelReport, check_model
from rocmforge.model.config import ModelConfig
from rocmforge.model.rope import RopeConfig, RopeScaling, rope_frequencies
from rocmforge.model.tensors import TensorSpec, check_tensors, expected_tensors

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ModelConfig",
    "ModelReport",
    "RopeConfig",
    "RopeScaling",
    "TensorSpec",
    "check_model",
    "check_tensors",
    "expected_tensors",
    "rope_frequencies",
]
