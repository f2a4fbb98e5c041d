"""LLM inference from GGUF files, on AMD GPUs and any CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    ModelFileError,
    OutOfMemoryError,
    RocmForgeError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from rocmforge import engine, tokenizer
    from rocmforge.engine import (
        LLM,
        AsyncLLM,
        CacheConfig,
        CacheStats,
        DeviceInfo,
        EngineConfig,
        EngineStats,
        GenerationRequest,
        InferenceEngine,
        RequestOutput,
        RequestState,
        SamplingConfig,
        SamplingParams,
        Scheduler,
        SchedulerConfig,
        TextDelta,
    )
    from rocmforge.engine.devices import devices
    from rocmforge.model.attention import Attention
    from rocmforge.model.device_memory import DeviceTensor, HipBackend, HipBuffer
    from rocmforge.model.execution_plan import ExecutionPlan, LayerPlan
    from rocmforge.model.load_progress import LoadProgress
    from rocmforge.model.runtime import ModelRuntime
    from rocmforge.server import InferenceServer, ServerSettings
    from rocmforge.tokenizer import ChatTemplate, Tokenizer

__all__ = [
    "LLM",
    "AsyncLLM",
    "Attention",
    "CacheConfig",
    "CacheStats",
    "CapacityError",
    "ChatTemplate",
    "DeviceError",
    "DeviceInfo",
    "DeviceTensor",
    "EngineConfig",
    "EngineStats",
    "ExecutionPlan",
    "GenerationRequest",
    "HipBackend",
    "HipBuffer",
    "InferenceEngine",
    "InferenceServer",
    "InvalidArgumentError",
    "LayerPlan",
    "LoadProgress",
    "ModelFileError",
    "ModelRuntime",
    "OutOfMemoryError",
    "RequestOutput",
    "RequestState",
    "RocmForgeError",
    "SamplingConfig",
    "SamplingParams",
    "Scheduler",
    "SchedulerConfig",
    "ServerSettings",
    "TextDelta",
    "Tokenizer",
    "UnavailableError",
    "UnsupportedError",
    "__version__",
    "devices",
    "engine",
    "tokenizer",
]

_PACKAGES = {
    "ChatTemplate": "tokenizer",
    "Attention": "model.attention",
    "DeviceTensor": "model.device_memory",
    "ExecutionPlan": "model.execution_plan",
    "HipBackend": "model.device_memory",
    "HipBuffer": "model.device_memory",
    "InferenceServer": "server",
    "LayerPlan": "model.execution_plan",
    "LoadProgress": "model.load_progress",
    "ModelRuntime": "model.runtime",
    "ServerSettings": "server",
    "Tokenizer": "tokenizer",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `rocmforge --version` needs no tokenizers, no NumPy."""
    if name in {"engine", "tokenizer"}:
        return importlib.import_module(f"rocmforge.{name}")
    if name == "__version__":
        value = importlib.import_module("rocmforge._native").BUILD.version
    elif name in __all__:
        package = _PACKAGES.get(name, "engine")
        value = getattr(importlib.import_module(f"rocmforge.{package}"), name)
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
