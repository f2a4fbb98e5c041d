"""Attention alone: one call on any device, with a causal or any other mask."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError
from rocmforge.model.device_choice import choose_device
from rocmforge.model.gpu_memory import gpu_memory_limit
from rocmforge.model.options import LoadOptions


class Attention:
    """softmax(scale * q @ k.T) @ v for heads that share keys and values in groups.

    Keys and values pass through a cache of `kv_dtype`, as in a model. Used by one thread at a time.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        num_kv_heads: int | None = None,
        value_dim: int | None = None,
        scale: float | None = None,
        device: str = "cpu",
        kv_dtype: str = "f32",
        max_tokens: int = 512,
    ) -> None:
        """At most `max_tokens` queries and as many positions; scale is 1 / sqrt(head_dim) unless
        given. Raises InvalidArgumentError, UnsupportedError for a device that cannot be used and
        OutOfMemoryError.
        """
        if kv_dtype not in _native.KV_DTYPES:
            msg = f"kv_dtype is {kv_dtype!r}; it can be {', '.join(_native.KV_DTYPES)}"
            raise InvalidArgumentError(msg)
        options = LoadOptions(device=device)
        gpu = choose_device(options).gpu
        self._native = _native.Attention(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads or num_heads,
            head_dim=head_dim,
            value_dim=value_dim or head_dim,
            scale=1 / math.sqrt(max(head_dim, 1)) if scale is None else scale,
            kv_dtype=kv_dtype,
            max_tokens=max_tokens,
            gpu=None if gpu is None else gpu.native(gpu_memory_limit(gpu, options)),
        )
        self.device = "cpu" if gpu is None else gpu.name

    def __call__(
        self,
        q: npt.ArrayLike,
        k: npt.ArrayLike,
        v: npt.ArrayLike,
        *,
        causal: bool = False,
        mask: npt.ArrayLike | None = None,
    ) -> npt.NDArray[np.float32]:
        """[queries, num_heads, value_dim] of q [queries, num_heads, head_dim], k [positions,
        num_kv_heads, head_dim] and v [positions, num_kv_heads, value_dim].

        `mask` [queries, positions] is true where a query sees a position. With `causal` the last
        query sees all positions, each before it one less. A query that sees nothing gets 0.
        """
        queries, keys, values = (np.asarray(array, np.float32) for array in (q, k, v))
        if queries.ndim != 3 or keys.ndim != 3:
            msg = "q and k have three axes: queries or positions, heads, elements"
            raise InvalidArgumentError(msg)
        shape = len(queries), len(keys)
        visible = np.ones(shape, bool) if mask is None else np.asarray(mask, bool)
        if visible.shape != shape:
            msg = f"the mask is {visible.shape}; {shape} is needed, queries by positions"
            raise InvalidArgumentError(msg)
        if causal:
            visible = visible & np.tri(*shape, k=shape[1] - shape[0], dtype=bool)
        return self._native(queries, keys, values, visible)
