"""Long prompts multiplied by a vendor's library, on one that only pretends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reference.tiny_models import write_tiny_model
from rocmforge import _native

SOURCE = Path(__file__).with_name("fake_matrix_library.c")
FILES = {"cuBLASLt": ("libcublasLt.so.13", []), "hipBLASLt": ("libhipblaslt.so.1", ["-DHIP"])}

SCRIPT = """
import json, sys
from types import SimpleNamespace
import numpy as np
from rocmforge import errors
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

def logits(decoder, count):
    positions = np.arange(count, dtype=np.int32)
    batch = SimpleNamespace(
        token_ids=positions * 7 % 515, positions=positions, slot_mapping=positions,
        query_start_loc=np.array([0, count], np.int32), seq_lens=np.array([count], np.int32),
        block_tables=np.arange(-(-count // decoder.block_size), dtype=np.int32)[None, :],
        logit_rows=np.array([count - 1], np.int32))
    return decoder.logits(decoder.enqueue(batch, None))[0].tolist()

options = LoadOptions(device="host:0", max_num_seqs=1, max_num_tokens=256, threads=1)
try:
    model = load_model(sys.argv[1], options)
    logits(model.decoder, 256)
    before = model.decoder.num_device_allocations
    out = {"logits": logits(model.decoder, 256), "report": model.placement[-1].reason}
    out["allocations"] = model.decoder.num_device_allocations - before
except errors.UnsupportedError as error:
    out = {"error": str(error)}
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "m.gguf", "llama", "Q4_K_M")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: matrix_library.cpp runs against no library")
    folder = tmp_path_factory.mktemp("libraries")
    for file, options in FILES.values():
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", folder / file, SOURCE, *options]
        subprocess.run(command, check=True)
    return folder


def run(model: Path, library: str | Path, products: str = "") -> dict[str, Any]:
    """A prompt of 256 tokens in a process of its own, which reads its environment."""
    package = Path(_native.__file__).resolve().parents[1]
    env = {
        **os.environ,
        "PYTHONPATH": str(package),
        "ROCMFORGE_MATRIX_LIBRARY": str(library),
        "FAKE_PRODUCTS": products,
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, model], env=env, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def own(model: Path) -> dict[str, Any]:
    return run(model, "own")


@pytest.mark.parametrize("name", FILES)
def test_a_library_gives_what_own_kernels_give(
    name: str, model: Path, libraries: Path, own: dict[str, Any]
) -> None:
    file = libraries / FILES[name][0]
    got = run(model, file)
    assert got["report"] == f"{name} ({file})"
    assert got["logits"] == pytest.approx(own["logits"], abs=1e-4)
    assert got["allocations"] == 0
    # They do come from it.
    other = run(model, file, "trial")
    assert other["report"] == f"{name} ({file})"
    assert other["logits"] != pytest.approx(own["logits"], abs=1e-2)


def test_the_switch_keeps_to_own_kernels(own: dict[str, Any]) -> None:
    assert own["report"] == "own kernels: ROCMFORGE_MATRIX_LIBRARY is own"
    assert own["allocations"] == 0


@pytest.mark.parametrize("products", ["wrong", "none"])
def test_a_library_that_fails_its_trial_multiplies_nothing(
    products: str, model: Path, libraries: Path, own: dict[str, Any]
) -> None:
    got = run(model, libraries / FILES["cuBLASLt"][0], products)
    assert got["report"].startswith("own kernels: cuBLASLt (")
    assert "gave a wrong product" in got["report"]
    assert got["logits"] == own["logits"]


def test_a_library_that_was_named_and_does_not_open_is_an_error(
    model: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "libcublasLt.so.1"
    assert str(missing) in run(model, missing)["error"]
    broken = tmp_path / "libhipblaslt.so"
    broken.write_bytes(b"no library")
    assert "hipBLASLt" in run(model, broken)["error"]
