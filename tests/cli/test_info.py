from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from rocmforge.cli.info import merged


def test_the_index_is_enough_to_map_the_file(run: Any, tiny_model: Path) -> None:
    tensors = run("info", tiny_model, "--tensors", "--json").json["tensors"]
    reader = GGUFReader(tiny_model)
    assert [tensor["name"] for tensor in tensors] == [tensor.name for tensor in reader.tensors]
    for tensor, expected in zip(tensors, reader.tensors, strict=True):
        data = np.fromfile(tensor["file"], np.uint8, tensor["nbytes"], offset=tensor["offset"])
        assert tensor["type"] == expected.tensor_type.name
        assert tensor["shape"] == expected.shape.tolist()
        assert np.array_equal(data, expected.data.reshape(-1).view(np.uint8))


def test_metadata_is_shown_with_long_arrays_cut(run: Any, story_model: Path) -> None:
    report = run("info", "--json").json
    assert report["path"] == str(story_model)
    metadata = report["metadata"]
    assert metadata["general.architecture"] == "llama"
    assert metadata["tokenizer.ggml.tokens"]["type"] == "string[8192]"
    assert len(metadata["tokenizer.ggml.tokens"]["first"]) == 8
    assert "tensors" not in report
    assert report["config"]["num_layers"] == 12
    assert report["problem"] is None


def test_the_placement_says_where_every_part_would_run(run: Any, tiny_model: Path) -> None:
    placement = run("info", tiny_model, "--json").json["placement"]
    assert [placed["part"] for placed in placement] == [
        "embedding",
        "layer 0",
        "layer 1",
        "output",
        "sampling",
    ]
    assert all(placed["device"] == "cpu" and placed["reason"] for placed in placement)


def test_the_screen_has_the_same_in_short(run: Any, tiny_model: Path) -> None:
    out = run("info", tiny_model, "--tensors").out
    assert "general.architecture: llama\n" in out
    assert "embedding to sampling on cpu: " in out
    assert "blk.1.ffn_down.weight [" in out
    assert max(map(len, out.splitlines())) < 200


def test_a_file_of_an_unknown_architecture_is_shown_with_the_problem(
    run: Any, bad_files: dict[str, Path]
) -> None:
    report = run("info", bad_files["unknown architecture"], "--json").json
    assert report["config"] is None
    assert report["placement"] == []
    assert "lamma" in report["problem"]
    assert "cannot run here: " in run("info", bad_files["unknown architecture"]).out


def test_a_file_with_a_vocabulary_alone_is_shown(run: Any, testdata: Path) -> None:
    path = min((testdata / "vocab").glob("*.gguf"), key=lambda path: path.stat().st_size)
    report = run("info", path, "--json").json
    assert report["num_tensors"] == 0
    assert report["problem"]


def test_neighbours_that_run_alike_are_one_line() -> None:
    placement = [("a", "cpu", "x"), ("b", "gpu", "y"), ("c", "gpu", "y"), ("d", "cpu", "x")]
    assert merged(placement) == [("a", "cpu", "x"), ("b to c", "gpu", "y"), ("d", "cpu", "x")]
