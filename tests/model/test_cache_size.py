"""The KV cache is sized from free memory and says what does not fit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from rocmforge.errors import InvalidArgumentError, OutOfMemoryError
from rocmforge.model.cache_size import fit_cache
from rocmforge.model.check import check_model
from rocmforge.model.loader import embedded_model
from rocmforge.model.options import LoadOptions

CONFIG = check_model(embedded_model()).config
# Keys and values of 2 KV heads of 64, 12 layers, 2 bytes each, 16 positions a block.
BLOCK_BYTES = 2 * 2 * 64 * 12 * 2 * 16
OPTIONS = LoadOptions(max_num_seqs=4, memory_fraction=0.5)


def test_every_sequence_gets_its_full_length_where_memory_allows() -> None:
    size = fit_cache(CONFIG, OPTIONS, available=1 << 40)
    assert size.max_model_len == CONFIG.context_length == 1024
    assert size.num_blocks == 4 * 1024 // 16
    assert size.nbytes == size.num_blocks * BLOCK_BYTES


def test_fewer_blocks_than_that_share_what_is_free() -> None:
    size = fit_cache(CONFIG, OPTIONS, available=2 * 100 * BLOCK_BYTES + 1)
    assert (size.num_blocks, size.max_model_len) == (100, 1024)


def test_a_context_nobody_asked_for_shrinks_to_what_fits() -> None:
    size = fit_cache(CONFIG, OPTIONS, available=2 * 10 * BLOCK_BYTES)
    assert (size.num_blocks, size.max_model_len) == (10, 160)


def test_a_context_asked_for_is_refused_with_both_sizes() -> None:
    options = replace(OPTIONS, max_model_len=512)
    with pytest.raises(OutOfMemoryError, match=f"{32 * BLOCK_BYTES} bytes.*{10 * BLOCK_BYTES}"):
        fit_cache(CONFIG, options, available=2 * 10 * BLOCK_BYTES)


def test_no_room_for_a_block_is_out_of_memory() -> None:
    with pytest.raises(OutOfMemoryError):
        fit_cache(CONFIG, OPTIONS, available=BLOCK_BYTES)


def test_a_number_of_blocks_can_be_asked_for_within_what_fits() -> None:
    assert fit_cache(CONFIG, replace(OPTIONS, num_blocks=65), available=1 << 40).num_blocks == 65
    for wrong in (63, 200):
        with pytest.raises(InvalidArgumentError, match=f"num_blocks is {wrong}.*needs 64.*100"):
            fit_cache(CONFIG, replace(OPTIONS, num_blocks=wrong), available=2 * 100 * BLOCK_BYTES)


@pytest.mark.parametrize(
    ("kv_dtype", "share"), [("f16", 1), ("bf16", 1), ("f32", 2), ("q8_0", Fraction(34, 64))]
)
def test_the_element_type_decides_the_bytes(kv_dtype: str, share: Fraction) -> None:
    size = fit_cache(CONFIG, replace(OPTIONS, kv_dtype=kv_dtype), available=1 << 40)
    assert size.nbytes == 256 * share * BLOCK_BYTES


@pytest.mark.parametrize("sizes", [{"head_dim": 80}, {"value_dim": 80}])
def test_heads_that_are_no_whole_blocks_are_refused_for_q8_0(sizes: dict[str, int]) -> None:
    options = replace(OPTIONS, kv_dtype="q8_0")
    with pytest.raises(InvalidArgumentError, match=r"q8_0.*multiple of 32.*80"):
        fit_cache(replace(CONFIG, **sizes), options, available=1 << 40)


def test_a_context_beyond_training_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"1025.*1024"):
        fit_cache(CONFIG, replace(OPTIONS, max_model_len=1025))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kv_dtype": "q4_0"},
        {"memory_fraction": 0.0},
        {"memory_fraction": 1.5},
        {"memory_fraction": float("nan")},
        {"block_size": 0},
        {"max_num_seqs": 0},
        {"max_num_tokens": -1},
        {"max_model_len": 0},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        fit_cache(CONFIG, replace(OPTIONS, **wrong))  # type: ignore[arg-type]
