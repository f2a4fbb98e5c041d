"""Opening, closing, mapped data, and paths that are no model."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from gguf_bytes.tiny import HIDDEN, VOCAB, tiny_model
from gguf_bytes.writer import STRING, GGUFBytes, array, string
from rocmforge.errors import InvalidArgumentError, ModelFileError, OutOfMemoryError
from rocmforge.gguf import GGUFFile, TensorType


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_model().build())
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_file_describes_itself(path: Path, version: int) -> None:
    model = tiny_model()
    model.version = version
    path.write_bytes(model.build())
    with GGUFFile.open(str(path)) as file:
        assert (file.path, file.version, file.alignment) == (path, version, 32)
        assert (file.size_bytes, file.num_files) == (path.stat().st_size, 1)
        assert list(file.tensors) == [t.name.decode() for t in model.tensors]
        embedding = file.tensors["token_embd.weight"]
    assert (embedding.type, embedding.shape) == (TensorType.F32, (HIDDEN, VOCAB))
    assert embedding.file == path
    assert (embedding.num_elements, embedding.nbytes) == (HIDDEN * VOCAB, 4 * HIDDEN * VOCAB)


def test_tensor_data_is_a_read_only_view_of_the_files_bytes(path: Path) -> None:
    raw = path.read_bytes()
    with GGUFFile.open(path) as file:
        for name, tensor in file.tensors.items():
            data = file.tensor_data(name)
            assert (data.dtype, data.ndim, data.flags.owndata) == (np.uint8, 1, False)
            assert bytes(data) == raw[tensor.offset : tensor.offset + tensor.nbytes]
            with pytest.raises(ValueError, match="read-only"):
                data[0] = 1


def test_view_outlives_the_file_and_then_lets_go_of_it(path: Path) -> None:
    file = GGUFFile.open(path)
    data = file.tensor_data("token_embd.weight")
    file.close()
    file.close()
    assert data.view("<f4")[0] == 0.125
    assert str(path) in Path("/proc/self/maps").read_text()
    del data
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_data_of_a_closed_file_or_an_unknown_tensor_is_refused(path: Path) -> None:
    with GGUFFile.open(path) as file, pytest.raises(InvalidArgumentError, match="no tensor 'x'"):
        file.tensor_data("x")
    with pytest.raises(InvalidArgumentError, match="has been closed"):
        file.tensor_data("token_embd.weight")


def test_file_changed_in_place_is_noticed_before_its_data_are_touched(path: Path) -> None:
    with GGUFFile.open(path) as file:
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        with pytest.raises(ModelFileError, match="has changed since it was opened"):
            file.tensor_data("token_embd.weight")


def test_file_cut_short_after_opening_is_noticed(path: Path) -> None:
    with GGUFFile.open(path) as file:
        before = path.stat()
        os.truncate(path, 100)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ModelFileError, match="has changed since it was opened"):
            file.tensor_data("token_embd.weight")


def test_file_replaced_under_its_name_keeps_serving_the_opened_one(path: Path) -> None:
    with GGUFFile.open(path) as file:
        other = path.with_name("other")
        other.write_bytes(b"short")
        other.replace(path)
        assert file.tensor_data("token_embd.weight").view("<f4")[-1] == 0.125


def test_file_cut_short_while_its_header_is_read_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread, calls = os.pread, []

    def cutting_pread(fd: int, count: int, offset: int) -> bytes:
        calls.append(offset)
        if len(calls) == 2:
            os.truncate(path, 64)
        return pread(fd, count, offset)

    monkeypatch.setattr(os, "pread", cutting_pread)
    with pytest.raises(ModelFileError, match="became shorter while it was read"):
        GGUFFile.open(path)


def test_paths_that_cannot_be_a_model_name_themselves_and_the_reason(tmp_path: Path) -> None:
    fifo, plain = tmp_path / "fifo", tmp_path / "plain"
    os.mkfifo(fifo)
    plain.write_text("text")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    reasons = {
        tmp_path / "missing.gguf": "does not exist",
        tmp_path: "is a directory",
        fifo: "is not a regular file",
        Path("/dev/null"): "is not a regular file",
        plain / "below": "Not a directory",
        loop: "symbolic links",
        tmp_path / ("n" * 300): "name too long",
    }
    for path, reason in reasons.items():
        with pytest.raises(InvalidArgumentError, match=reason) as caught:
            GGUFFile.open(path)
        assert str(path) in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="not a usable path"):
        GGUFFile.open("a\0b")


def test_file_without_permission_is_refused_with_the_reason(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InvalidArgumentError, match=r"model.gguf cannot be opened: Permission"):
        GGUFFile.open(path)


def test_lack_of_memory_is_a_typed_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(os, "pread", no_memory)
    with pytest.raises(OutOfMemoryError, match="not enough memory"):
        GGUFFile.open(path)


def test_empty_and_text_files_are_told_apart_from_damaged_models(tmp_path: Path) -> None:
    looks = {
        b"": "the file is empty",
        b"Dear reader,\nthis is a letter.\n": "a text file",
        "Größe: ändert\n".encode()[:-3]: "a text file",
        b"\x12\x34\xab\xff\x00": "unknown data",
    }
    for number, (data, look) in enumerate(looks.items()):
        path = tmp_path / str(number)
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match=look) as caught:
            GGUFFile.open(path)
        assert str(path) in str(caught.value)


def test_vocabulary_of_152k_tokens_opens_in_half_a_second(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    tokens = [f"Ġtoken{i}" for i in range(152_000)]
    merges = [f"Ġ{i} x{i}" for i in range(280_000)]
    model = tiny_model().set("tokenizer.ggml.tokens", array(STRING, tokens))
    path.write_bytes(model.set("tokenizer.ggml.merges", array(STRING, merges)).build())
    started = time.process_time()
    with GGUFFile.open(path) as file:
        opened = time.process_time() - started
        assert file.metadata.strings("tokenizer.ggml.tokens") == tokens
        assert file.metadata.strings("tokenizer.ggml.merges") == merges
    assert opened < 0.5
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 3_000_001])
def test_strings_of_any_length_come_back_whole(tmp_path: Path, length: int) -> None:
    path = tmp_path / "vocabulary.gguf"
    strings = ["first", "x" * length, "y" * length]
    model = GGUFBytes().set("one", string("z" * length)).set("all", array(STRING, strings))
    path.write_bytes(model.build())
    with GGUFFile.open(path) as file:
        assert file.metadata.string("one") == "z" * length
        assert file.metadata.strings("all") == strings


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2"])
def test_real_vocabularies_open_in_half_a_second(testdata: Path, name: str) -> None:
    started = time.process_time()
    with GGUFFile.open(testdata / "vocab" / f"ggml-vocab-{name}.gguf") as file:
        assert time.process_time() - started < 0.5
        assert len(file.metadata.strings("tokenizer.ggml.tokens")) > 120_000
