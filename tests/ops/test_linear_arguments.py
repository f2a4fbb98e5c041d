"""What the seam refuses before a kernel runs, and the table behind it."""

from __future__ import annotations

import numpy as np
import pytest

from reference.blocks import FORMATS
from rocmforge import _native, errors

W = np.zeros((3, 2 * 18), np.uint8)
X = np.zeros((2, 64), np.float32)


def test_shapes_of_the_result() -> None:
    assert _native.cpu.linear("Q4_0", W, X).shape == (2, 3)
    assert _native.cpu.linear("Q4_0", W, X[:0]).shape == (0, 3)
    assert _native.cpu.linear("Q4_0", W[:0], X).shape == (2, 0)


@pytest.mark.parametrize(
    ("w", "x", "message"),
    [
        (W[:, :35], X, "rows of 35 bytes, not a whole number of blocks of 18"),
        (W, X[:, :32].copy(), "rows of 64 weights, x columns of 32 values"),
        (W[0], X, "two dimensions"),
        (W, X[0], "two dimensions"),
    ],
)
def test_operands_that_do_not_fit_are_refused(w: np.ndarray, x: np.ndarray, message: str) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=message):
        _native.cpu.linear("Q4_0", w, x)


@pytest.mark.parametrize("rows", [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_row_ranges_outside_the_matrix_are_refused(rows: tuple[int, int]) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"within \[0, 3\]"):
        _native.cpu.linear("Q4_0", W, X, rows=rows)


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="shape of the result"):
        _native.cpu.linear("Q4_0", W, X, out=np.zeros((3, 2), np.float32))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(errors.UnsupportedError, match="Q9_0"):
        _native.cpu.linear("Q9_0", W, X)
    with pytest.raises(errors.InvalidArgumentError, match="'auto' or 'float'"):
        _native.cpu.linear("Q4_0", W, X, activations="int4")
    with pytest.raises(errors.UnsupportedError, match="mmx"):
        _native.cpu.linear("Q4_0", W, X, isa="mmx")


def test_bytes_of_partial_blocks_do_not_decode() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="rows of 17 bytes"):
        _native.cpu.dequantize("Q4_0", np.zeros(17, np.uint8))


def test_every_format_has_every_kernel_at_every_isa(isa: str) -> None:
    providers = _native.cpu.linear_providers(isa)
    for entry, kernels in providers.items():
        # The scalar level multiplies the file's rows.
        assert sorted(kernels) == ([] if (entry, isa) == ("panels", "scalar") else sorted(FORMATS))


def test_each_isa_brings_its_own_kernels(isa: str) -> None:
    """An overlay that is not installed would pass every other test."""
    own = _native.cpu.linear_providers(isa)
    panels, rows = {
        "scalar": (set(), "scalar"),
        "avx2": ({"avx2"}, "avx2"),
        "avx512": ({"avx512"}, "avx2"),
        "amx": ({"avx512"}, "avx2"),
        "neon": ({"neon"}, "neon"),
        "dotprod": ({"dotprod"}, "neon"),
        "i8mm": ({"i8mm"}, "neon"),
    }[isa]
    assert set(own["panels"].values()) == panels
    assert set(own["linear_float"].values()) == {rows}


def test_panels_are_multiplied_in_whole_panels() -> None:
    w = np.zeros((40, 2 * 18), np.uint8)
    isa = _native.cpu.available_isas()[1]  # the lowest above scalar
    for rows in ((1, 16), (0, 17)):
        with pytest.raises(errors.InvalidArgumentError, match="whole panels of 16"):
            _native.cpu.linear("Q4_0", w, X, rows=rows, isa=isa)
    assert _native.cpu.linear("Q4_0", w, X, rows=(16, 40), isa=isa).shape == (2, 40)


def test_read_bandwidth_is_measured_and_refuses_too_little() -> None:
    assert 1e8 < _native.cpu.read_bandwidth(1, 32 << 20) < 1e13
    for threads, size in ((0, 32 << 20), (1, 1000)):
        with pytest.raises(errors.InvalidArgumentError, match="at least 1 thread and 1 MiB"):
            _native.cpu.read_bandwidth(threads, size)
