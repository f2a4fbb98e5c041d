"""How the memory of a GPU is shared out between weights, the step's buffers and the KV cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rocmforge.errors import OutOfMemoryError
from rocmforge.model.config import ModelConfig
from rocmforge.model.gpu_devices import GpuDevice
from rocmforge.model.options import LoadOptions

_PAGE: Final = 4096
# Chunks of arenas that are not full, staging, step parameters.
_OVERHEAD: Final = 96 << 20
# Weights as bf16 (native/gpu/gpu_linear.cpp), and the workspace of a matrix library.
_MOST_DECODED: Final = 256 << 20
_WORKSPACE: Final = 32 << 20
# Steps that decode weights to memory first.
_DECODING_TOKENS: Final = 256
# Tokens of a step that a large GPU takes: decoding all weights takes an eighth of its time then, a
# third of it with 512.
LONG_STEP: Final = 2048
_LARGE_GPU: Final = 100  # multiprocessors: others would keep single tokens waiting for too long
_LONG_STEP_SHARE: Final = 1 / 16  # of the memory that may be used, for its buffers
_ATTENTION_SPLITS: Final = 8  # parts of a sequence that attention computes side by side, at most


def gpu_memory_share(gpu: GpuDevice, options: LoadOptions) -> float:
    """Of the device memory that is free, what this model may take."""
    return options.memory_fraction or gpu.memory_share


def gpu_memory_limit(gpu: GpuDevice, options: LoadOptions) -> int:
    """Bytes that this model may take."""
    return int((gpu.memory_bytes or 0) * gpu_memory_share(gpu, options))


def gpu_memory_left(
    config: ModelConfig,
    options: LoadOptions,
    gpu: GpuDevice,
    weight_bytes: int,
    share: float = 1.0,
) -> int:
    """Bytes for the KV cache if `share` of what may be used is; below 0 if others are missing."""
    return _limit(gpu, options, share) - weight_bytes - step_bytes(config, options)


def gpu_cache_budget(
    config: ModelConfig,
    options: LoadOptions,
    gpu: GpuDevice,
    weight_bytes: int,
    share: float = 1.0,
) -> int:
    """gpu_memory_left(); raises OutOfMemoryError, with every size, if nothing is."""
    left = gpu_memory_left(config, options, gpu, weight_bytes, share)
    if left <= 0:
        msg = (
            f"{gpu.name} has {gpu.memory_bytes or 0} bytes free, of which "
            f"{_limit(gpu, options, share)} may be used; the weights need {weight_bytes} and the "
            f"buffers of a step {step_bytes(config, options)}"
        )
        raise OutOfMemoryError(msg)
    return left


def _limit(gpu: GpuDevice, options: LoadOptions, share: float) -> int:
    return int(gpu_memory_limit(gpu, options) * share)


def step_bytes(config: ModelConfig, options: LoadOptions) -> int:
    """At least what the buffers of a step take, overhead included."""
    used = max(config.num_experts_used, 1)
    ffn = config.expert_ffn_size if config.num_experts else config.ffn_size
    q = config.num_heads * config.head_dim
    kv = config.num_kv_heads * (config.head_dim + config.value_dim)
    values = config.num_heads * config.value_dim
    widest = max(config.hidden_size, values, ffn)
    streams = 3 if config.parallel_residual else 2
    floats = streams * config.hidden_size + q + kv + values + config.num_experts + config.head_dim
    floats += used * (3 * ffn + config.hidden_size + widest // 2)  # quantized: 10 bits a value
    tokens, seqs = options.max_num_tokens, options.max_num_seqs
    split = tokens if options.deterministic else seqs
    partial = split * config.num_heads * _ATTENTION_SPLITS * (config.value_dim + 2)
    logits = seqs * (config.vocab_size + config.hidden_size)
    decoded = 0
    if tokens >= _DECODING_TOKENS and not options.deterministic and options.activations == "auto":
        rows = max(config.vocab_size, 2 * ffn, q + kv)
        decoded = min(2 * rows * widest, _MOST_DECODED) + _WORKSPACE
    return 4 * (tokens * floats + partial + logits) + decoded + 64 * _PAGE + _OVERHEAD


def long_step(config: ModelConfig, options: LoadOptions, gpu: GpuDevice) -> int | None:
    """Tokens of one step that suit a GPU better than options.max_num_tokens, where they may."""
    longer = replace(options, max_num_tokens=LONG_STEP)
    if not options.long_steps or options.max_num_tokens >= LONG_STEP:
        return None
    if gpu.num_multiprocessors < _LARGE_GPU or gpu.shares_host_memory:
        return None
    room = gpu_memory_limit(gpu, options) * _LONG_STEP_SHARE
    return LONG_STEP if step_bytes(config, longer) <= room else None
