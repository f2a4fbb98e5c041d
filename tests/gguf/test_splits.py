"""Models in several files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gguf_bytes.tiny import split, tiny_model
from gguf_bytes.writer import U32, GGUFBytes, scalar
from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.gguf import GGUFFile
from rocmforge.model import check_model


def part_path(folder: Path, number: int, count: int) -> Path:
    return folder / f"model-{number:05}-of-{count:05}.gguf"


def write(folder: Path, parts: list[GGUFBytes]) -> list[Path]:
    paths = [part_path(folder, i + 1, len(parts)) for i in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        path.write_bytes(part.build())
    return paths


@pytest.mark.parametrize("count", [2, 3, 11])
def test_first_part_finds_the_others(tmp_path: Path, count: int) -> None:
    whole = tiny_model()
    for i, tensor in enumerate(whole.tensors):
        tensor.data = bytes([i]) * len(tensor.data)
    paths = write(tmp_path, split(whole, count))
    with GGUFFile.open(paths[0]) as file:
        assert file.num_files == count
        assert file.size_bytes == sum(path.stat().st_size for path in paths)
        assert set(file.tensors) == {t.name.decode() for t in whole.tensors}
        for i, tensor in enumerate(whole.tensors):
            name = tensor.name.decode()
            assert file.tensors[name].file == paths[i % count]
            assert bytes(file.tensor_data(name)) == tensor.data
    assert check_model(paths[0]).num_files == count


def test_files_of_the_gguf_packages_splitter_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=2)
    arrays = {f"t{i}": np.full((3, 32), i, np.float32) for i in range(5)}
    for name, values in arrays.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile.open(part_path(tmp_path, 1, 3)) as file:
        assert file.metadata.string("general.architecture") == "llama"
        for name, values in arrays.items():
            assert file.tensors[name].shape == (32, 3)
            assert (file.tensor_data(name).view("<f4") == values.ravel()).all()


@pytest.mark.parametrize("number", [2, 3])
def test_another_part_says_which_to_open(tmp_path: Path, number: int) -> None:
    paths = write(tmp_path, split(tiny_model(), 3))
    with pytest.raises(InvalidArgumentError, match=f"part {number} of 3; open .*00001-of-00003"):
        GGUFFile.open(paths[number - 1])


def test_missing_part_is_named(tmp_path: Path) -> None:
    paths = write(tmp_path, split(tiny_model(), 3))
    paths[1].unlink()
    with pytest.raises(InvalidArgumentError, match=r"missing: model-00002-of-00003.gguf$"):
        GGUFFile.open(paths[0])


@pytest.mark.parametrize("name", ["model.gguf", "model-00001-of-00002.gguf", "m-1-of-3.gguf"])
def test_renamed_first_part_says_how_parts_are_named(tmp_path: Path, name: str) -> None:
    paths = write(tmp_path, split(tiny_model(), 3))
    other = paths[0].with_name(name)
    paths[0].rename(other)
    with pytest.raises(InvalidArgumentError, match=r"named NAME-00001-of-00003.gguf"):
        GGUFFile.open(other)


MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"no": 1}, "split.no.*counted from 0|the name says 2"),
    "count": ({"total": 4}, "the first part counts 3 parts"),
    "tensors": ({"tensors": 12}, "the parts hold 11 tensors, not 12"),
    "tensors_0": ({"tensors": 0}, "the parts hold 11 tensors, not 0"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_parts_that_contradict_each_other_are_refused(tmp_path: Path, name: str) -> None:
    changes, message = MISMATCHES[name]
    paths = write(tmp_path, split(tiny_model(), 3, **changes))
    with pytest.raises(ModelFileError, match=message):
        GGUFFile.open(paths[0])


@pytest.mark.parametrize(
    ("key", "message"),
    [("split.tensors.count", "missing"), ("split.no", "missing")],
)
def test_split_keys_have_to_be_complete(tmp_path: Path, key: str, message: str) -> None:
    parts = split(tiny_model(), 2)
    parts[0].drop(key)
    with pytest.raises(ModelFileError, match=f"{message}.*{key}"):
        GGUFFile.open(write(tmp_path, parts)[0])


@pytest.mark.parametrize("key", ["split.no", "split.count"])
def test_further_parts_have_to_say_which_they_are(tmp_path: Path, key: str) -> None:
    parts = split(tiny_model(), 2)
    parts[1].drop(key)
    with pytest.raises(ModelFileError, match=f"00002-of-00002.*missing.*{key}"):
        GGUFFile.open(write(tmp_path, parts)[0])


@pytest.mark.parametrize("count", [257, 65535, 1 << 31])
def test_too_many_parts_are_refused_before_any_is_looked_for(tmp_path: Path, count: int) -> None:
    parts = split(tiny_model(), 1)
    parts[0].set("split.count", scalar(U32, count))
    path = tmp_path / "model-00001-of-65535.gguf"
    path.write_bytes(parts[0].build())
    with pytest.raises(ModelFileError, match="outside of 0 to 256"):
        GGUFFile.open(path)


@pytest.mark.parametrize("count", [0, 1])
def test_file_that_is_its_only_part_may_have_any_name(tmp_path: Path, count: int) -> None:
    path = tmp_path / "model-00002-of-00003.gguf"
    path.write_bytes(tiny_model().set("split.count", scalar(U32, count)).build())
    with GGUFFile.open(path) as file:
        assert file.num_files == 1


def test_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    parts = split(tiny_model(), 2, tensors=12)
    parts[1].tensors.append(parts[0].tensors[0])
    with pytest.raises(ModelFileError, match=r"occurs in two parts .*token_embd"):
        GGUFFile.open(write(tmp_path, parts)[0])


def test_damage_in_a_further_part_names_that_part_and_closes_all(tmp_path: Path) -> None:
    paths = write(tmp_path, split(tiny_model(), 3))
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    with pytest.raises(ModelFileError, match=r"00003-of-00003.gguf: .* is it truncated"):
        GGUFFile.open(paths[0])
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


def test_every_part_is_watched_for_changes(tmp_path: Path) -> None:
    paths = write(tmp_path, split(tiny_model(), 2))
    with GGUFFile.open(paths[0]) as file:
        with paths[1].open("ab") as part:
            part.write(b"more")
        in_second = next(n for n, t in file.tensors.items() if t.file == paths[1])
        in_first = next(n for n, t in file.tensors.items() if t.file == paths[0])
        file.tensor_data(in_first)
        with pytest.raises(ModelFileError, match=r"00002-of-00002.gguf has changed"):
            file.tensor_data(in_second)
