"""Weights on their way to a GPU: read piece by piece through pinned memory, from files that are slow,
end early or cannot be read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from decoder_steps import teacher_forced

from reference.tiny_models import write_tiny_model
from rocmforge import ModelFileError, UnavailableError, _native
from rocmforge.gguf import GGUFFile
from rocmforge.model.load_progress import LoadProgress
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

PIECE = 4 << 20


@pytest.fixture(params=["host:0", "host:2"])
def arena(request: pytest.FixtureRequest) -> _native.gpu.Arena:
    """At once, and with work that waits until somebody waits for it."""
    return _native.gpu.Arena("host", int(request.param[-1]), 1 << 30, 1 << 20)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 100)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("size", [1, PIECE, 6 * PIECE + 5])
def test_every_piece_arrives_though_each_is_read_while_others_are_on_their_way(
    arena: _native.gpu.Arena, size: int
) -> None:
    data = np.random.default_rng(size).bytes(size)
    asked = []

    def read(at: int, count: int) -> bytes:
        asked.append((at, count))
        if at == 2 * PIECE:
            time.sleep(0.05)  # a slow one
        return data[at : at + count]

    memory = arena.allocate(size)
    arena.write_from(memory, size, read)
    assert arena.read(memory, size) == data
    assert asked == [(at, min(PIECE, size - at)) for at in range(0, size, PIECE)]


def test_what_reading_throws_comes_out_and_the_next_copy_works(arena: _native.gpu.Arena) -> None:
    def read(at: int, count: int) -> bytes:
        if at > 0:
            msg = "the disk is gone"
            raise OSError(msg)
        return bytes(count)

    memory = arena.allocate(2 * PIECE)
    with pytest.raises(OSError, match="the disk is gone"):
        arena.write_from(memory, 2 * PIECE, read)
    arena.write(memory, b"abc")
    assert arena.read(memory, 3) == b"abc"


def test_a_part_of_a_file_is_read_from_its_place(arena: _native.gpu.Arena, descriptor: int) -> None:
    memory = arena.allocate(300)
    arena.write_file(memory, 300, descriptor, 513)
    assert arena.read(memory, 300) == (bytes(range(256)) * 3)[1:301]


def test_a_file_that_ends_early_is_named_with_the_place(
    arena: _native.gpu.Arena, descriptor: int
) -> None:
    memory = arena.allocate(300)
    with pytest.raises(ModelFileError, match="ended at byte 25600 while it was loaded"):
        arena.write_file(memory, 300, descriptor, 25_500)


def test_a_file_that_cannot_be_read_is_no_damaged_file(
    arena: _native.gpu.Arena, tmp_path: Path
) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(UnavailableError, match="cannot be read at byte 7: "):
        arena.write_file(arena.allocate(16), 16, folder, 7)
    os.close(folder)


@pytest.mark.parametrize("device", ["cpu", "host:0"])
def test_loading_tells_how_far_it_is(tmp_path: Path, device: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q8_0")
    progress = LoadProgress()
    assert progress.text() == ""
    load_model(path, LoadOptions(device=device, threads=1, max_num_seqs=1), progress)
    with GGUFFile.open(path) as file:
        matrices = sum(t.nbytes for t in file.tensors.values() if len(t.shape) > 1)
        assert progress.total_bytes == sum(t.nbytes for t in file.tensors.values())
    assert progress.loaded_bytes == matrices
    assert progress.bytes_per_s > 0
    rate = progress.bytes_per_s
    time.sleep(0.01)
    assert progress.bytes_per_s == rate  # the clock stops with loading
    assert progress.text().startswith("0.1 of 0.1 MB, ")


def test_a_model_cut_short_while_it_is_loaded_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q8_0")
    short = tmp_path / "short"
    short.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    fd = os.open(short, os.O_RDONLY)
    place = GGUFFile.tensor_place
    monkeypatch.setattr(GGUFFile, "tensor_place", lambda self, name: (fd, place(self, name)[1]))
    with pytest.raises(ModelFileError, match=r"ended at byte \d+"):
        load_model(path, LoadOptions(device="host:0", threads=1, max_num_seqs=1))
    os.close(fd)


def test_weights_are_read_from_the_file_itself(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "F16")
    ids, options = list(range(9)), {"activations": "float", "kv_dtype": "f32"}
    wanted = teacher_forced(path, ids, **options)
    np.testing.assert_allclose(
        teacher_forced(path, ids, device="host:0", **options), wanted, atol=1e-3
    )
