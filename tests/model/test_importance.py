"""Importance matrices of both kinds, sound and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.model.importance import read_importance

SUMS = {
    "blk.0.attn_q.weight": np.array([[2.0, 4.0, 0.0]], np.float32),
    "blk.0.ffn_up_exps.weight": np.array([[1.0, 2.0], [30.0, 60.0], [0.0, 0.0]], np.float32),
}
COUNTS = {"blk.0.attn_q.weight": [4.0], "blk.0.ffn_up_exps.weight": [1.0, 10.0, 0.0]}
MEANS = {
    "blk.0.attn_q.weight": [[0.5, 1.0, 0.0]],
    "blk.0.ffn_up_exps.weight": [[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]],
}


def write_gguf(path: Path, kind: str = "imatrix", counts: dict[str, list[float]] = COUNTS) -> Path:
    writer = GGUFWriter(path, "")
    writer.add_type(kind)
    for name, sums in SUMS.items():
        writer.add_tensor(f"{name}.in_sum2", sums)
        if name in counts:
            writer.add_tensor(f"{name}.counts", np.array(counts[name], np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def old_kind(calls: int = 4) -> bytes:
    name, values = b"blk.0.attn_q.weight", np.array([2.0, 4.0, 0.0], "<f4")
    entry = struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, 3) + values.tobytes()
    text = b"calibration.txt"
    return struct.pack("<i", 1) + entry + struct.pack("<ii", 100, len(text)) + text


def test_a_gguf_file_gives_the_mean_squares_of_each_expert(tmp_path: Path) -> None:
    found = read_importance(write_gguf(tmp_path / "imatrix.gguf"))
    assert {name: values.tolist() for name, values in found.items()} == MEANS


def test_the_older_kind_is_read(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(old_kind())
    found = read_importance(path)
    assert {name: values.tolist() for name, values in found.items()} == {
        "blk.0.attn_q.weight": [[0.5, 1.0, 0.0]]
    }


def test_a_model_is_no_importance_matrix(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the type is 'model', not 'imatrix'"):
        read_importance(write_gguf(tmp_path / "model.gguf", "model"))


def test_counts_that_are_missing_or_too_few_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="missing, or not F32"):
        read_importance(write_gguf(tmp_path / "a.gguf", counts={}))
    few = COUNTS | {"blk.0.ffn_up_exps.weight": [1.0]}
    with pytest.raises(ModelFileError, match="1 counts stand for 3 matrices"):
        read_importance(write_gguf(tmp_path / "b.gguf", counts=few))


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    whole = old_kind()
    needed = len(whole) - len(b"calibration.txt") - 8
    for length in range(needed):
        path.write_bytes(whole[:length])
        with pytest.raises((ModelFileError, InvalidArgumentError)):
            read_importance(path)
    path.write_bytes(whole[:needed])
    assert read_importance(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, -1),
        (0, 0),
        (0, 1 << 30),
        (4, -1),
        (4, 1 << 30),
        (27, -1),
        (27, 0),
        (31, -1),
        (31, 1 << 30),
    ],
)
def test_counts_that_lie_are_refused(tmp_path: Path, place: int, value: int) -> None:
    data = bytearray(old_kind())
    struct.pack_into("<i", data, place, value)
    path = tmp_path / "imatrix.dat"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_importance(path)


def test_values_that_are_negative_or_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    for bad in (-1.0, np.nan, np.inf):
        path.write_bytes(old_kind().replace(struct.pack("<f", 4.0), struct.pack("<f", bad)))
        with pytest.raises(ModelFileError, match=r"negative or no number .*attn_q"):
            read_importance(path)


def test_a_path_that_cannot_be_read_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="No such file"):
        read_importance(tmp_path / "none")
