"""Models in formats that are expanded at load, whole, against the float64 reference."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from decoder_steps import teacher_forced

from reference.decoder import ReferenceDecoder, kl_divergences
from reference.peer_cases import prompt
from reference.tiny_models import write_tiny_model
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions
from rocmforge.model.stored_formats import loaded_bytes

FORMATS = ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0"]


def write(path: Path, name: str, architecture: str = "llama") -> Path:
    return write_tiny_model(path, architecture, name, dim=256, feed_forward=256, seed=2)


@pytest.mark.parametrize("name", FORMATS)
def test_logits_are_near_those_of_the_exact_weights(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "m.gguf", name)
    ids = prompt(515)[:24]
    expected = ReferenceDecoder(path).logits(ids)
    divergence = kl_divergences(expected, teacher_forced(path, ids, activations="float"))
    assert np.median(divergence) < 2e-3
    divergence = kl_divergences(expected, teacher_forced(path, ids))
    assert np.median(divergence) < 5e-3


@pytest.mark.parametrize("device", ["host:0", "host:1"])
def test_a_gpu_runs_them_too(tmp_path: Path, device: str) -> None:
    path = write(tmp_path / "m.gguf", "IQ2_XS")
    ids = prompt(515)[:9]
    divergence = kl_divergences(
        teacher_forced(path, ids).astype(np.float64), teacher_forced(path, ids, device=device)
    )
    assert np.median(divergence) < 5e-3


def test_experts_are_expanded_each_in_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "IQ3_S", "qwen3moe")
    ids = prompt(515)[:24]
    expected = ReferenceDecoder(path).logits(ids)
    divergence = kl_divergences(expected, teacher_forced(path, ids, activations="float"))
    assert np.median(divergence) < 2e-3


def test_the_plan_counts_what_is_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "IQ2_XXS")
    model = load_model(path, LoadOptions(device="cpu"))
    with GGUFFile.open(path) as file:
        matrices = [t for t in file.tensors.values() if t.type.name == "IQ2_XXS"]
        assert all(loaded_bytes(t) == t.num_elements * 34 // 32 for t in matrices)
        total = sum(loaded_bytes(t) for t in file.tensors.values())
        assert model.plan.weight_bytes("cpu") == total
        layer = next(plan.part for plan in model.plan.parts if plan.part.is_layer)
        assert layer.formats == ("Q8_0",)


def test_a_weight_that_is_not_finite_is_told_with_its_tensor(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "IQ2_S")
    with GGUFFile.open(path) as file:
        place = file.tensors["blk.1.attn_k.weight"].offset
    data = bytearray(path.read_bytes())
    data[place : place + 2] = b"\0\x7e"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"not a number.*blk\.1\.attn_k\.weight"):
        load_model(path, LoadOptions(device="cpu"))


def test_the_expanded_matrices_are_in_memory_once(tmp_path: Path) -> None:
    """33 M weights in two layers: 36 MB in Q8_0, and as much again if the first copy stayed."""
    shape = {"dim": 1024, "feed_forward": 4096, "num_kv_heads": 4, "num_layers": 2}
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "IQ2_XXS", **shape)
    program = (
        "import sys\n"
        "from rocmforge.model.host import resident_bytes\n"
        "from rocmforge.model.loader import load_model\n"
        "from rocmforge.model.options import LoadOptions\n"
        "options = LoadOptions(device='cpu', threads=1, max_num_seqs=1, max_model_len=64)\n"
        "before = resident_bytes()\n"
        "model = load_model(sys.argv[1], options)\n"
        "print(resident_bytes() - before, model.plan.weight_bytes('cpu'))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    grown, weights = map(int, ran.stdout.split())
    assert weights > 30e6
    assert grown < 1.5 * weights
