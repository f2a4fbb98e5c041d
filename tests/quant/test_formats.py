"""The format table against the `gguf` package's."""

from __future__ import annotations

import gguf
import pytest

from reference.blocks import FORMATS
from rocmforge import _native


def test_the_table_holds_every_format_of_the_oracle() -> None:
    assert sorted(_native.FORMATS) == sorted(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_id_and_block_sizes_are_those_of_gguf(name: str) -> None:
    weight_format = gguf.GGMLQuantizationType[name]
    block_weights, block_bytes = gguf.GGML_QUANT_SIZES[weight_format]
    assert _native.FORMATS[name] == (int(weight_format), block_weights, block_bytes)
