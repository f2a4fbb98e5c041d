"""The table of tensor types against that of the gguf package and that of the native core."""

from __future__ import annotations

import gguf
import pytest

from rocmforge import _native
from rocmforge.gguf.tensor_types import TENSOR_TYPES, TensorType

# The package counts two float32 in a Q8_1 block; the struct has two float16 (block_q8_1 in
# ggml-common.h). The type is for activations and never in a file.
PACKAGE_SIZES = {
    t: (32, 36) if t.name == "Q8_1" else size for t, size in gguf.GGML_QUANT_SIZES.items()
}


def test_every_type_of_the_gguf_package_is_known_by_id_name_and_size() -> None:
    ours = {t.id: (t.name, t.block_weights, t.block_bytes) for t in TensorType}
    assert ours == {int(t): (t.name, *size) for t, size in PACKAGE_SIZES.items()}


def test_lookup_by_id_finds_every_type() -> None:
    assert {i: t.id for i, t in TENSOR_TYPES.items()} == {t.id: t.id for t in TensorType}


@pytest.mark.parametrize("name", _native.FORMATS)
def test_native_formats_have_the_same_id_and_block(name: str) -> None:
    t = TensorType[name]
    assert _native.FORMATS[name] == (t.id, t.block_weights, t.block_bytes)
