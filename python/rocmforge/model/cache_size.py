"""How many KV blocks a model gets, from the memory that is free."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory of one device for the keys and values of the layers that it runs."""

    num_layers: int
    budget: int  # bytes
    share: str  # what the budget is, in words


def host_pool(num_layers: int, options: LoadOptions, available: int | None = None) -> Pool:
    """Of the host, where `available` bytes are free."""
    fraction = options.memory_fraction or DEFAULT_MEMORY_FRACTION
    budget = int((available_memory() if available is None else available) * fraction)
    return Pool(num_layers, budget, f"memory_fraction {fraction:g} of what is free")


def layer_block_bytes(config: ModelConfig, options: LoadOptions) -> int:
    """Of the keys and values of a block in one layer. Raises InvalidArgumentError for options."""
    _check(options)
    row_bytes = _row_bytes(config.head_dim, options) + _row_bytes(config.value_dim, options)
    return config.num_kv_heads * row_bytes * options.block_size


def least_blocks(config: ModelConfig, options: LoadOptions, context: int) -> int:
    """For the blocks asked for, or one sequence of the length asked for, or of `context` tokens."""
    tokens = options.max_model_len or min(config.context_length, context)
    return options.num_blocks or -(-tokens // options.block_size)


def fit_cache(
    config: ModelConfig,
    options: LoadOptions,
    available: int | None = None,
    pools: Sequence[Pool] | None = None,
) -> CacheSize:
    """Room for `max_num_seqs` sequences of full length, or as much of it as memory allows.

    A context length that nobody asked for shrinks to what fits; one that was asked for and does
    not fit is an OutOfMemoryError that names both sizes. `pools` are those of all devices, each of
    which has every block for its layers; None is the host with `available` bytes.
    """
    layer_bytes, block_size = layer_block_bytes(config, options), options.block_size
    pools = pools or [host_pool(config.num_layers, options, available)]
    smallest = min(pools, key=lambda pool: pool.budget // pool.num_layers)
    block_bytes = smallest.num_layers * layer_bytes
    affordable = min(smallest.budget // block_bytes, _MAX_SLOTS // block_size)

    wanted_len = options.max_model_len or config.context_length
    if wanted_len > config.context_length:
        msg = (
            f"max_model_len (--ctx) is {wanted_len}; this model was trained for "
            f"{config.context_length} tokens of context"
        )
        raise InvalidArgumentError(msg)
    needed = -(-wanted_len // block_size)
    if affordable < needed:
        if options.max_model_len is not None or affordable < 1:
            msg = (
                f"a sequence of {wanted_len} tokens needs {needed * block_bytes} bytes of KV "
                f"cache; {smallest.budget} may be used ({smallest.share})"
            )
            raise OutOfMemoryError(msg)
        wanted_len = affordable * block_size
        needed = affordable
    num_blocks = min(affordable, _most_blocks(config, options, needed))
    if options.num_blocks is not None:
        if not needed <= options.num_blocks <= affordable:
            msg = (
                f"num_blocks is {options.num_blocks}; one sequence of {wanted_len} tokens needs "
                f"{needed}, and memory holds {affordable}"
            )
            raise InvalidArgumentError(msg)
        num_blocks = options.num_blocks
    return CacheSize(num_blocks, wanted_len, num_blocks * config.num_layers * layer_bytes)


def _most_blocks(config: ModelConfig, options: LoadOptions, needed: int) -> int:
    """More than these are of no use; `needed` are for one sequence of full length."""
    if config.causal:
        return needed * options.max_num_seqs
    # Sequences live for a step, in which each may leave a block in part unused.
    step = -(-options.max_num_tokens // options.block_size)
    return max(needed, step) + options.max_num_seqs


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
