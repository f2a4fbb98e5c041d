"""Files that are written: what the reader and the `gguf` package make of them, and what is left
behind when writing ends early."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from gguf_bytes.writer import (
    F32,
    STRING,
    U32,
    GGUFBytes,
    Tensor,
    array,
    inner_array,
    scalar,
    string,
)
from rocmforge.errors import InvalidArgumentError, UnavailableError
from rocmforge.gguf import GGUFFile, GGUFWriter, NewTensor, TensorType
from rocmforge.gguf.values import ValueType, raw_scalar

TENSORS = [
    NewTensor("a.weight", TensorType.Q8_0, (64, 3)),
    NewTensor("b", TensorType.F32, (5,)),
    NewTensor("c.weight", TensorType.F16, (7, 2, 2)),
]
PAIRS = {
    "general.architecture": raw_scalar(ValueType.STRING, b"llama"),
    "x.count": raw_scalar(ValueType.U32, 7),
}


def contents() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, tensor.nbytes, dtype=np.uint8) for tensor in TENSORS]


def write(path: Path, data: list[np.ndarray], alignment: int = 32) -> GGUFWriter:
    with GGUFWriter(path, PAIRS, TENSORS, alignment) as writer:
        for tensor in data:
            middle = len(tensor) // 3
            writer.write(tensor[:middle])
            writer.write(tensor[middle:])
    return writer


@pytest.mark.parametrize("alignment", [32, 64])
def test_what_is_written_is_read_again(tmp_path: Path, alignment: int) -> None:
    path, data = tmp_path / "new.gguf", contents()
    pairs = PAIRS | {"general.alignment": raw_scalar(ValueType.U32, alignment)}
    with GGUFWriter(path, pairs, TENSORS, alignment) as writer:
        for tensor in data:
            writer.write(tensor)
    assert path.stat().st_size == writer.size_bytes
    with GGUFFile.open(path) as file:
        assert file.metadata["x.count"] == 7
        assert file.alignment == alignment
        for tensor, expected in zip(TENSORS, data, strict=True):
            assert file.tensors[tensor.name].shape == tensor.shape
            assert file.tensors[tensor.name].type is tensor.type
            assert np.array_equal(file.tensor_data(tensor.name), expected)


def test_the_gguf_package_reads_it_too(tmp_path: Path) -> None:
    path, data = tmp_path / "new.gguf", contents()
    write(path, data)
    reader = GGUFReader(path)
    assert [tensor.name for tensor in reader.tensors] == [tensor.name for tensor in TENSORS]
    assert [tuple(tensor.shape) for tensor in reader.tensors] == [t.shape for t in TENSORS]
    for tensor, expected in zip(reader.tensors, data, strict=True):
        assert tensor.data.tobytes() == expected.tobytes()
    assert reader.get_field("x.count").contents() == 7


def test_every_kind_of_value_is_copied_byte_for_byte(tmp_path: Path) -> None:
    values = {
        **{f"n{kind}": scalar(kind, 1) for kind in (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12)},
        "text": string("naïve"),
        "not UTF-8": string(b"\xff\xfe"),
        "numbers": array(F32, [0.5, -2.0]),
        "texts": array(STRING, ["", "ab"]),
        "nested": array(9, [inner_array(U32, [1, 2]), inner_array(STRING, ["c"])]),
    }
    path = tmp_path / "old.gguf"
    given = GGUFBytes([(key.encode(), value) for key, value in values.items()])
    given.tensors.append(Tensor(b"t", [1], bytes(4)))
    path.write_bytes(given.build())
    with GGUFFile.open(path) as file:
        assert {key: file.metadata.raw(key) for key in file.metadata} == values


def test_the_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path, data = tmp_path / "new.gguf", contents()
    path.write_bytes(b"what was there before")
    with GGUFWriter(path, PAIRS, TENSORS) as writer:
        for tensor in data:
            writer.write(tensor)
        assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_whatever_ends_the_writing_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def begin_and_fail() -> None:
        with GGUFWriter(tmp_path / "new.gguf", PAIRS, TENSORS) as writer:
            writer.write(contents()[0])
            assert len(list(tmp_path.iterdir())) == 1
            raise error

    with pytest.raises(error):
        begin_and_fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["posix_fallocate", "write", "fsync"])
def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "new.gguf"
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UnavailableError, match=r"new\.gguf cannot be written: No space left"):
        write(path, contents())
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    path = tmp_path / "new.gguf"
    assert write(path, contents()).size_bytes == path.stat().st_size


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:50]))
    path, data = tmp_path / "new.gguf", contents()
    write(path, data)
    with GGUFFile.open(path) as file:
        assert np.array_equal(file.tensor_data("c.weight"), data[2])


def test_a_path_that_cannot_be_is_wrong_use(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "new.gguf"):
        with pytest.raises(InvalidArgumentError, match=str(path)):
            write(path, contents())


def test_data_that_is_missing_or_too_much_is_refused(tmp_path: Path) -> None:
    path, data = tmp_path / "new.gguf", contents()
    with pytest.raises(InvalidArgumentError, match="2 tensors of"):
        write(path, data[:1])
    with pytest.raises(InvalidArgumentError, match="more data"):
        write(path, [np.append(data[0], data[0][:1])])
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidArgumentError, match="no regular file"):
        write(pipe, contents())
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
