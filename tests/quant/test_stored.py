"""Decoding of the formats that are expanded at load, bit by bit against `gguf.quants`."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from rocmforge import _native

STORED = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"]
STORED += ["TQ1_0", "TQ2_0", "NVFP4"]


@pytest.fixture(scope="module")
def quantizer() -> _native.Quantizer:
    return _native.Quantizer(2)


def dequantized(name: str, data: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return quants.dequantize(data, GGMLQuantizationType[name])


def test_the_table_is_that_of_gguf() -> None:
    assert sorted(_native.STORED_FORMATS) == sorted(STORED)
    assert not set(STORED) & set(_native.FORMATS)
    for name, (gguf_id, weights, size) in _native.STORED_FORMATS.items():
        weight_format = GGMLQuantizationType[name]
        assert (gguf_id, weights, size) == (
            int(weight_format),
            *gguf.GGML_QUANT_SIZES[weight_format],
        )


@pytest.mark.parametrize("name", STORED)
def test_random_bytes_decode_as_gguf_decodes_them(quantizer: _native.Quantizer, name: str) -> None:
    """Infinite and NaN scales are left out: the quantizer refuses a row that has one."""
    _, weights, size = _native.STORED_FORMATS[name]
    rng = np.random.default_rng(len(name))
    data = rng.integers(0, 256, (6000, size), dtype=np.uint8)
    expected = dequantized(name, data)
    finite = np.isfinite(expected).all(axis=1)
    assert finite.mean() > 0.9
    decoded = quantizer.convert(name, data[finite], "F32").view(np.float32)
    assert decoded.shape == (finite.sum(), weights)
    assert np.array_equal(decoded.view(np.uint32), expected[finite].view(np.uint32))


@pytest.mark.parametrize("name", STORED)
def test_rows_of_several_blocks_decode_in_order(quantizer: _native.Quantizer, name: str) -> None:
    _, _, size = _native.STORED_FORMATS[name]
    data = np.random.default_rng(1).integers(0, 64, (5, 3 * size), dtype=np.uint8)
    decoded = quantizer.convert(name, data, "F32").view(np.float32)
    assert np.array_equal(decoded, dequantized(name, data))


def test_every_entry_of_every_grid_is_met(quantizer: _native.Quantizer) -> None:
    """Random bytes reach all 2,048 entries of the largest grid: 2,000 blocks have 32 codes each."""
    rng = np.random.default_rng(2)
    for name in ("IQ1_S", "IQ2_S", "IQ3_S"):
        data = rng.integers(0, 256, (2000, _native.STORED_FORMATS[name][2]), dtype=np.uint8)
        data[:, :2] = np.array([1.0], np.float16).view(np.uint8)
        decoded = quantizer.convert(name, data, "F32").view(np.float32)
        assert np.array_equal(decoded, dequantized(name, data))


def test_every_scale_of_nvfp4_decodes(quantizer: _native.Quantizer) -> None:
    blocks = np.empty((64, 36), np.uint8)
    blocks[:, :4] = np.arange(256).reshape(64, 4)
    blocks[:, 4:] = np.arange(32) * 0x11 & 0xFF
    decoded = quantizer.convert("NVFP4", blocks, "F32").view(np.float32)
    assert np.array_equal(decoded.view(np.uint32), dequantized("NVFP4", blocks).view(np.uint32))
