"""Systematic and random damage: every mutant is a valid model or a typed error."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gguf_bytes.exercise import REFUSALS, exercise
from gguf_bytes.mutate import mutant, rich_model
from gguf_bytes.tiny import tiny_model
from gguf_bytes.writer import ARRAY, BOOL, F64, STRING, array, inner_array, scalar
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile
from rocmforge.model import check_model

FLIPPED_BYTES = 4096


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_undamaged_models_are_accepted(tmp_path: Path) -> None:
    for model in (rich_model(), tiny_model("llama"), tiny_model("qwen2"), tiny_model("qwen3")):
        path = tmp_path / "whole.gguf"
        path.write_bytes(model.build())
        assert exercise(path)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "experts", "rich"])
def test_file_cut_at_any_byte_of_its_header_is_refused(architecture: str, tmp_path: Path) -> None:
    model = rich_model() if architecture == "rich" else tiny_model("llama", experts=2)
    if architecture.startswith(("llama", "qwen")):
        model = tiny_model(architecture)
    whole, path = model.build(), tmp_path / "cut.gguf"
    path.write_bytes(whole)
    for size in range(len(model.header()) + 64, -1, -1):
        os.truncate(path, size)
        with pytest.raises(ModelFileError):
            check_model(path)


def test_every_flipped_bit_of_the_first_4_kib_is_survived(tmp_path: Path) -> None:
    model = tiny_model()
    model.set("my.nested", array(ARRAY, [inner_array(STRING, ["a"]), inner_array(BOOL, [1])]))
    model.set("my.double", scalar(F64, 1.0))
    whole, path = model.build(), tmp_path / "flipped.gguf"
    path.write_bytes(whole)
    refused = []
    with path.open("r+b", buffering=0) as file:
        for position in range(FLIPPED_BYTES):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([whole[position] ^ (1 << bit)]), position)
                try:
                    check_model(path)
                except REFUSALS:
                    refused.append(position)
            os.pwrite(file.fileno(), whole[position : position + 1], position)
    # Flips of a bit in tokens, in some names and in values that nothing uses leave a valid model.
    header = len(model.header())
    assert max(refused) < header
    assert 0.5 < len(refused) / (8 * header) < 0.9
    assert exercise(path)


def test_random_structured_damage_is_survived_in_time(tmp_path: Path) -> None:
    rng, path = random.Random(20240229), tmp_path / "mutant.gguf"
    slowest = accepted = 0.0
    for _ in range(2500):
        path.write_bytes(mutant(rng))
        started = time.process_time()
        accepted += exercise(path)
        slowest = max(slowest, time.process_time() - started)
    assert 0 < accepted < 1250
    assert slowest < 2


def test_refused_files_leave_no_descriptor_open(tmp_path: Path) -> None:
    rng, path = random.Random(1), tmp_path / "mutant.gguf"
    before = open_descriptors()
    for _ in range(200):
        path.write_bytes(mutant(rng))
        exercise(path)
    assert open_descriptors() == before


def test_file_replaced_by_a_shorter_one_between_open_and_use_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(rich_model().build())
    with GGUFFile.open(path) as file:
        os.truncate(path, 100)
        with pytest.raises(ModelFileError, match="has changed since it was opened"):
            file.tensor_data("token_embd.weight")


def test_fuzzer_runs_alone_and_reports(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "fuzz" / "fuzz_gguf.py"
    command = [sys.executable, str(script), "--seconds", "0.5", "--seed", "3"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[1-9][0-9]* inputs, seed 3: 0 findings\n", done.stdout)
