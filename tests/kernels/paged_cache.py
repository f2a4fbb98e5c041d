"""A layer of the paged KV cache in the kernels' layout, read back by position."""

from __future__ import annotations

import ctypes

import numpy as np
from host_kernels import THREADS, Memory, ceil_div, count, launch, struct

KV_TYPES = ("f32", "f16", "bf16", "q8_0")
ELEMENT = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "q8_0": np.int8}


def align(n: int) -> int:
    return -(-n // 16) * 16


class PagedCache:
    """All bytes are 0xff (NaNs, or -1 times NaN) until something is stored."""

    def __init__(
        self,
        kv_type: str,
        kv_heads: int,
        head_dim: int,
        value_dim: int,
        block_size: int,
        num_blocks: int,
    ) -> None:
        self.kv_type, self.kv_heads, self.block_size = kv_type, kv_heads, block_size
        self.head_dim, self.value_dim, self.num_blocks = head_dim, value_dim, num_blocks
        item = np.dtype(ELEMENT[kv_type]).itemsize
        k, v = (kv_heads * block_size * dim for dim in (head_dim, value_dim))
        self.v = align(k * item)
        self.bytes = self.v + align(v * item)
        self.k_scales = self.v_scales = 0
        if kv_type == "q8_0":
            self.k_scales = self.bytes
            self.v_scales = self.k_scales + align(k // 32 * 2)
            self.bytes = self.v_scales + align(v // 32 * 2)
        self.memory = Memory(np.full((num_blocks, self.bytes), 0xFF, np.uint8))

    @property
    def layout(self) -> ctypes.Structure:
        return struct(
            "KvLayout", bytes=self.bytes, v=self.v, k_scales=self.k_scales, v_scales=self.v_scales
        )

    def store(
        self,
        k: np.ndarray,
        v: np.ndarray,
        slots: np.ndarray,
        wave: int,
        tokens: int | None = None,
    ) -> None:
        """k (T, kv_heads, head_dim) and v side by side in rows, as the projections leave them."""
        rows = len(k)
        stride = self.kv_heads * (self.head_dim + self.value_dim) + 4
        both = np.full((rows, stride), np.nan, np.float32)
        split = self.kv_heads * self.head_dim
        both[:, :split] = k.reshape(rows, -1)
        both[:, split:-4] = v.reshape(rows, -1)
        source = Memory(both)
        launch(
            "store_kv",
            wave,
            (rows, ceil_div(2 * self.kv_heads, THREADS // wave)),
            self.kv_type,
            cache=self.memory,
            k=source,
            v=source.address + 4 * split,
            slot_mapping=Memory(slots),
            num_tokens=count(rows if tokens is None else tokens),
            row_stride=stride,
            layout=self.layout,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            value_dim=self.value_dim,
            block_size=self.block_size,
        )

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (slots, kv_heads, dim) in float64."""
        return (
            self._read(0, self.k_scales, self.head_dim),
            self._read(self.v, self.v_scales, self.value_dim),
        )

    def _part(self, begin: int, kind: type, per_row: int) -> np.ndarray:
        n = self.kv_heads * self.block_size * per_row
        blocks = self.memory.array[:, begin : begin + n * np.dtype(kind).itemsize].copy()
        shaped = blocks.view(kind).reshape(-1, self.kv_heads, self.block_size, per_row)
        return shaped.transpose(0, 2, 1, 3).reshape(-1, self.kv_heads, per_row)

    def _read(self, begin: int, scales: int, dim: int) -> np.ndarray:
        values = self._part(begin, ELEMENT[self.kv_type], dim)
        if self.kv_type == "bf16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if self.kv_type == "q8_0":
            d = self._part(scales, np.float16, dim // 32).astype(np.float64)
            with np.errstate(invalid="ignore"):
                return values * np.repeat(d, 32, axis=-1)
        return values.astype(np.float64)

    def is_untouched(self, slots: np.ndarray) -> bool:
        """Whether the rows of those slots, and all padding, have never been written."""
        item = ELEMENT[self.kv_type]
        parts = [(0, item, self.head_dim), (self.v, item, self.value_dim)]
        if self.kv_type == "q8_0":
            parts += [(self.k_scales, np.float16, self.head_dim // 32)]
            parts += [(self.v_scales, np.float16, self.value_dim // 32)]
        clean = all(
            (self._part(*part)[slots].copy().view(np.uint8) == 0xFF).all() for part in parts
        )
        used = np.zeros(self.bytes, bool)
        for begin, kind, per_row in parts:
            n = self.kv_heads * self.block_size * per_row * np.dtype(kind).itemsize
            used[begin : begin + n] = True
        return bool(clean and (self.memory.array[:, ~used] == 0xFF).all())
