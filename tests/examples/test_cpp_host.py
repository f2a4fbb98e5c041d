"""The example host, built against the installed package, against Python on the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cmake_project import built

from reference.tiny_models import write_tiny_model
from rocmforge.model.options import LoadOptions
from rocmforge.model.runtime import ModelRuntime

EXAMPLE = Path(__file__).parents[2] / "examples" / "cpp_host"
PROMPT = [3, 141, 59, 26, 53]
NEW_TOKENS = 12

# Split rows (phi3), biases and a tied output (qwen2), experts, latent attention, layer norms with
# two kinds of rotation, position embeddings; formats of both block sizes.
MODELS = {
    "llama": "Q4_K_M",
    "qwen2": "Q8_0",
    "qwen3moe": "Q4_0",
    "phi3": "Q5_K",
    "gemma3": "Q6_K",
    "deepseek2": "Q8_0",
    "gpt2": "F16",
}
ON_GPU = ("llama", "qwen2", "qwen3moe", "phi3")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(EXAMPLE, tmp_path_factory.mktemp("cpp_host")) / "cpp_host"


def run(host: Path, index: Path, device: str, ids: list[int]) -> subprocess.CompletedProcess[str]:
    arguments = [host, index, device, NEW_TOKENS, *ids]
    return subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, check=False, timeout=60
    )


def write_index(model: Path | None, path: Path) -> Path:
    command = [sys.executable, "-m", "rocmforge", "info", "--tensors", "--json"]
    done = subprocess.run([*command, *([model] if model else [])], capture_output=True, check=True)
    path.write_bytes(done.stdout)
    return path


def greedy(model: Path | None, device: str, prompt: list[int]) -> list[int]:
    runtime = ModelRuntime(model, LoadOptions(device=device, max_num_seqs=1))
    ids = [int(np.argmax(runtime.extend(prompt)))]
    while len(ids) < NEW_TOKENS:
        ids.append(int(np.argmax(runtime.decode_step(ids[-1]))))
    return ids


@pytest.mark.parametrize("architecture", MODELS)
def test_the_host_decodes_what_python_does(host: Path, tmp_path: Path, architecture: str) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf", architecture, MODELS[architecture])
    index = write_index(model, tmp_path / "index.json")
    for device in ("cpu", "host:0")[: 2 if architecture in ON_GPU else 1]:
        done = run(host, index, device, PROMPT)
        assert [int(i) for i in done.stdout.split()] == greedy(model, device, PROMPT), done.stderr


def test_the_story_model_goes_on_alike(host: Path, tmp_path: Path) -> None:
    index = write_index(None, tmp_path / "index.json")
    done = run(host, index, "cpu", [1, 1000, 2000])
    assert [int(i) for i in done.stdout.split()] == greedy(None, "cpu", [1, 1000, 2000])


def test_a_model_without_gpu_kernels_is_refused_with_the_reason(host: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf", "gpt2", "F16")
    done = run(host, write_index(model, tmp_path / "index.json"), "host:0", PROMPT)
    assert done.returncode == 1
    assert "for which there is no GPU kernel" in done.stderr


def _set(*path: str | int, value: Any) -> Callable[[Any], Any]:
    def change(report: Any) -> Any:
        at = report
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        return report

    return change


DAMAGE = {
    "no object": (lambda _: [], "no member problem"),
    "no decoder": (_set("decoder", value=None), "no member spec"),
    "a model that cannot run": (_set("problem", value="of its own"), "of its own"),
    "an unknown field": (_set("decoder", "spec", "warp", value=1), "spec has a field warp"),
    "an unknown kind": (_set("decoder", "spec", "norm", value="X"), "spec.norm is X"),
    "a text for a number": (_set("decoder", "spec", "num_heads", value="4"), "spec.num_heads"),
    "half a head": (_set("decoder", "spec", "num_heads", value=0.5), "spec.num_heads"),
    "no heads": (_set("decoder", "spec", "num_heads", value=0), "must be positive"),
    "many heads": (_set("decoder", "spec", "num_heads", value=1 << 40), "too large"),
    "another width": (_set("decoder", "spec", "hidden_size", value=96), "model's sizes"),
    "a negative offset": (_set("decoder", "weights", 0, "offset", value=-1), "an offset"),
    "an offset beyond": (_set("decoder", "weights", 0, "offset", value=1 << 50), "leaves"),
    "no such file": (_set("decoder", "weights", 0, "file", value="/none"), "cannot open"),
    "a folder": (_set("decoder", "weights", 0, "file", value="/"), "cannot"),
    "an empty shape": (_set("decoder", "weights", 0, "shape", value=[]), "matrices, rows"),
    "a vast shape": (
        _set("decoder", "weights", 0, "shape", value=[1 << 30, 1 << 30, 1 << 30]),
        "number of bytes",
    ),
    "a type of no kernel": (_set("decoder", "weights", 0, "type", value="Q9"), "format Q9"),
    "an odd address": (_set("decoder", "weights", 0, "offset", value=3), "multiple of 4"),
    "a weight too few": (lambda r: r["decoder"]["weights"].pop(0) and r, "is missing"),
}


def test_a_damaged_index_is_an_error_that_says_what(host: Path, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf", "llama", "Q8_0")
    good = write_index(model, tmp_path / "index.json").read_text()
    bad = tmp_path / "bad.json"
    for name, (change, message) in DAMAGE.items():
        bad.write_text(json.dumps(change(json.loads(good))))
        done = run(host, bad, "cpu", PROMPT)
        assert done.returncode == 1, (name, done.returncode)
        assert message in done.stderr, (name, done.stderr)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a"}',
        '"\\ud800"',
        '"\\u12g4"',
        '"\\',
        "1e999",
        "nul",
        "{} {}",
        '"\x01"',
    ],
)
def test_text_that_is_no_json_is_an_error_with_its_place(
    host: Path, tmp_path: Path, text: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    done = run(host, bad, "cpu", PROMPT)
    assert done.returncode == 1
    assert "the index is no JSON at byte" in done.stderr


def test_the_example_configures_with_the_sources_beside_it(tmp_path: Path) -> None:
    """Its objects compile with the headers of the tree; the library itself takes minutes."""
    source = f"-DROCMFORGE_SOURCE={EXAMPLE.parents[1]}"
    configure = ["cmake", "-S", EXAMPLE, "-B", tmp_path, "-G", "Ninja", source]
    for command in (configure, ["ninja", "-C", tmp_path, "CMakeFiles/cpp_host.dir/main.cpp.o"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
