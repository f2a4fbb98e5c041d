"""How many KV blocks a model gets, from the memory that is free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rocmforge._native import KV_DTYPES
from rocmforge.errors import InvalidArgumentError, OutOfMemoryError
from rocmforge.model.config import ModelConfig
from rocmforge.model.host import available_memory
from rocmforge.model.options import LoadOptions

# The mapped weights are reclaimable, but a model that decodes wants them to stay.
DEFAULT_MEMORY_FRACTION: Final = 0.5
_MAX_SLOTS: Final = (1 << 31) - 1  # slots are int32


@dataclass(frozen=True, slots=True)
class CacheSize:
    num_blocks: int
    max_model_len: int  # tokens of one sequence
    nbytes: int


def fit_cache(
    config: ModelConfig,
    options: LoadOptions,
    available: int | None = None,
    budget: int | None = None,
) -> CacheSize:
    """Room for `max_num_seqs` sequences of full length, or as much of it as memory allows.

    A context length that nobody asked for shrinks to what fits; one that was asked for and does
    not fit is an OutOfMemoryError that names both sizes. `available` bytes are free on the host;
    `budget` bytes may be used on a device that has memory of its own.
    """
    _check(options)
    block_size = options.block_size
    row_bytes = _row_bytes(config.head_dim, options) + _row_bytes(config.value_dim, options)
    block_bytes = config.num_layers * config.num_kv_heads * row_bytes * block_size
    if budget is None:
        fraction = options.memory_fraction or DEFAULT_MEMORY_FRACTION
        budget = int((available_memory() if available is None else available) * fraction)
        share = f"memory_fraction {fraction:g} of what is free"
    else:
        share = "what weights and buffers leave of the device's memory"
    affordable = min(budget // block_bytes, _MAX_SLOTS // block_size)

    wanted_len = options.max_model_len or config.context_length
    if wanted_len > config.context_length:
        msg = (
            f"max_model_len is {wanted_len}; this model was trained for "
            f"{config.context_length} tokens of context"
        )
        raise InvalidArgumentError(msg)
    needed = -(-wanted_len // block_size)
    if affordable < needed:
        if options.max_model_len is not None or affordable < 1:
            msg = (
                f"a sequence of {wanted_len} tokens needs {needed * block_bytes} bytes of KV "
                f"cache; {budget} may be used ({share})"
            )
            raise OutOfMemoryError(msg)
        wanted_len = affordable * block_size
        needed = affordable
    num_blocks = min(affordable, needed * options.max_num_seqs)
    if options.num_blocks is not None:
        if not needed <= options.num_blocks <= affordable:
            msg = (
                f"num_blocks is {options.num_blocks}; one sequence of {wanted_len} tokens needs "
                f"{needed}, and memory holds {affordable}"
            )
            raise InvalidArgumentError(msg)
        num_blocks = options.num_blocks
    return CacheSize(num_blocks, wanted_len, num_blocks * block_bytes)


def _row_bytes(size: int, options: LoadOptions) -> int:
    """Of the keys, or values, of one head at one position."""
    values, num_bytes = KV_DTYPES[options.kv_dtype]
    if size % values:
        msg = (
            f"kv_dtype is {options.kv_dtype!r}, for heads of a multiple of {values} elements; "
            f"this model has heads of {size}: choose another kv_dtype"
        )
        raise InvalidArgumentError(msg)
    return size // values * num_bytes


def _check(options: LoadOptions) -> None:
    if options.kv_dtype not in KV_DTYPES:
        msg = f"kv_dtype is {options.kv_dtype!r}; it can be {', '.join(KV_DTYPES)}"
        raise InvalidArgumentError(msg)
    fraction = options.memory_fraction
    if fraction is not None and not 0 < fraction <= 1:
        msg = f"memory_fraction is {fraction}; it lies above 0 and is at most 1"
        raise InvalidArgumentError(msg)
    for name, value, limit in (
        ("max_model_len", options.max_model_len, _MAX_SLOTS),
        ("block_size", options.block_size, 1 << 16),
        ("max_num_seqs", options.max_num_seqs, 1 << 16),
        ("max_num_tokens", options.max_num_tokens, 1 << 20),
    ):
        if value is not None and not 1 <= value <= limit:
            msg = f"{name} is {value}; it can be 1 to {limit}"
            raise InvalidArgumentError(msg)
