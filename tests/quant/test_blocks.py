"""Decoding of weight blocks, bit by bit against `gguf.quants`, every format and ISA.

The bytes are random, so block scales are often infinite, NaN or subnormal: files may hold such.
"""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from reference.blocks import FORMATS
from rocmforge import _native

NUM_ROWS = 200


def assert_same_bits(decoded: np.ndarray, expected: np.ndarray) -> None:
    """NaN payloads are free: the formats do not define them."""
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(decoded), nan)
    assert np.array_equal(decoded.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def dequantized(name: str, data: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return quants.dequantize(data, GGMLQuantizationType[name])


@pytest.mark.parametrize("name", FORMATS)
def test_random_bytes_decode_as_gguf_decodes_them(isa: str, name: str) -> None:
    _, block_weights, block_bytes = _native.FORMATS[name]
    rng = np.random.default_rng(len(name))
    longest = 700 if block_weights == 1 else 20
    for num_blocks in rng.integers(1, longest, NUM_ROWS):
        row = rng.integers(0, 256, num_blocks * block_bytes, dtype=np.uint8)
        assert_same_bits(_native.cpu.dequantize(name, row, isa), dequantized(name, row))


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_a_matrix_decode_independently(isa: str, name: str) -> None:
    _, _, block_bytes = _native.FORMATS[name]
    data = np.random.default_rng(1).integers(0, 256, (2, 3, 9 * block_bytes), dtype=np.uint8)
    assert_same_bits(_native.cpu.dequantize(name, data, isa), dequantized(name, data))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_16_bit_float_decodes_exactly(isa: str, name: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    assert_same_bits(_native.cpu.dequantize(name, every, isa), dequantized(name, every))


def test_every_mxfp4_exponent_and_code_decodes_exactly(isa: str) -> None:
    blocks = np.empty((256, 17), np.uint8)
    blocks[:, 0] = np.arange(256)
    blocks[:, 1:] = np.arange(16) * 0x11
    row = blocks.reshape(-1)
    assert_same_bits(_native.cpu.dequantize("MXFP4", row, isa), dequantized("MXFP4", row))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "Q6_K"])
def test_a_row_at_an_odd_address_decodes(isa: str, name: str) -> None:
    """GGUF lets a file ask for alignment 1."""
    _, _, block_bytes = _native.FORMATS[name]
    memory = np.random.default_rng(2).integers(0, 256, 9 * block_bytes + 1, dtype=np.uint8)
    assert_same_bits(
        _native.cpu.dequantize(name, memory[1:], isa), dequantized(name, memory[1:].copy())
    )
