from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_a_sound_model_is_ok(run: Any, tiny_model: Path) -> None:
    ran = run("check", tiny_model)
    assert ran.exit_code == 0
    assert ": ok (llama, " in ran.out
    assert run("check", tiny_model, "--json").json["ok"] is True


def test_a_damaged_one_is_told_with_place_and_reason(
    run: Any, tiny_model: Path, tmp_path: Path
) -> None:
    data = tiny_model.read_bytes()
    key = b"llama.attention.head_count_kv"
    place = data.index(key) + len(key)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data[: place + 4] + (3).to_bytes(4, "little") + data[place + 8 :])
    ran = run("check", path, "--json")
    assert ran.exit_code == 1
    result = json.loads(ran.out)
    assert result["ok"] is False
    assert result["error"] == "ModelFileError"
    assert result["key"] == key.decode()
    assert isinstance(result["offset"], int)
    assert result["reason"] in ran.err


def test_a_vocabulary_that_cannot_be_used_is_found(
    run: Any, tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(tiny_model.read_bytes().replace(b"llama-bpe", b"llama-bpx"))
    ran = run("check", path)
    assert ran.exit_code == 1
    assert "llama-bpx" in ran.err


@pytest.mark.parametrize("fault", ["missing", "directory"])
def test_a_wrong_path_is_wrong_use(run: Any, bad_files: dict[str, Path], fault: str) -> None:
    assert run("check", bad_files[fault]).exit_code == 2


def test_the_catalogue_of_damaged_files_is_judged_as_its_manifest_says(
    run: Any, testdata: Path
) -> None:
    folder = testdata / "malformed"
    lines = (folder / "manifest.tsv").read_text().splitlines()
    verdicts = [line.split("\t")[:2] for line in lines if line and not line.startswith("#")]
    for name, verdict in verdicts[:: max(1, len(verdicts) // 25)]:
        path = folder / name
        if path.exists() and verdict in ("accept", "reject"):
            assert run("check", path).exit_code == (0 if verdict == "accept" else 1), name
