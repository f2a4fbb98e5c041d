"""Shared fixtures: every ISA of the machine, and the shared test data where it exists."""

from __future__ import annotations

import gc
import os
from pathlib import Path

# The oracle's matrices are tiny: two BLAS threads spend ten times the CPU of one, spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from rocmforge import _native


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes `isa` once for every instruction set of this machine."""
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", _native.cpu.available_isas())


def pytest_collection_finish() -> None:
    """Thousands of collected tests would make every collection of garbage take a tenth of a second,
    in the middle of what a test times. Counted anew without them: a collection of everything waits
    for a quarter of what the last one left, gigabytes of garbage after millions of objects."""
    gc.collect()
    gc.freeze()
    gc.collect()


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of real models and vocabularies; tests that need it are skipped without it."""
    folder = os.environ.get("ROCMFORGE_TESTDATA")
    if not folder:
        pytest.skip("ROCMFORGE_TESTDATA is not set; the same point is proven on generated data")
    return Path(folder)
