"""Requests, scheduling, sampling and the step loop that runs them on a decoder."""

from __future__ import annotations

from rocmforge.engine.async_llm import AsyncLLM, AsyncTextStream
from rocmforge.engine.block_manager import CacheConfig
from rocmforge.engine.config import EngineConfig
from rocmforge.engine.devices import DeviceInfo, devices
from rocmforge.engine.inference_engine import GenerationRequest, InferenceEngine
from rocmforge.engine.llm import LLM, TextStream
from rocmforge.engine.output import RequestOutput, TextDelta
from rocmforge.engine.request import RequestState
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import Scheduler, SchedulerConfig
from rocmforge.engine.stats import CacheStats, EngineStats

SamplingConfig = SamplingParams

__all__ = [
    "LLM",
    "AsyncLLM",
    "AsyncTextStream",
    "CacheConfig",
    "CacheStats",
    "DeviceInfo",
    "EngineConfig",
    "EngineStats",
    "GenerationRequest",
    "InferenceEngine",
    "RequestOutput",
    "RequestState",
    "SamplingConfig",
    "SamplingParams",
    "Scheduler",
    "SchedulerConfig",
    "TextDelta",
    "TextStream",
    "devices",
]
