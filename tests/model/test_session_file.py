from __future__ import annotations

import hashlib
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.model.options import LoadOptions
from rocmforge.model.runtime import ModelRuntime

IDS = [(7 * i + 3) % 512 for i in range(41)]  # two blocks of 16 and a part of one
HEADER = struct.Struct("<8sIIQQ32s32s")
TOKENS_AT = HEADER.size + 32
BLOCKS_AT = TOKENS_AT + 4 * len(IDS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("session") / "tiny.gguf", "llama", "Q8_0")


def runtime(model: Path, **options: Any) -> ModelRuntime:
    given = {"device": "cpu", "max_num_seqs": 1, "deterministic": True, **options}
    return ModelRuntime(model, LoadOptions(**given))


@pytest.fixture(scope="module")
def original(model: Path) -> ModelRuntime:
    return runtime(model)


@pytest.fixture
def saved(original: ModelRuntime, tmp_path: Path) -> Path:
    original.reset()
    original.extend(IDS)
    original.save(tmp_path / "session")
    return tmp_path / "session"


def continued(original: ModelRuntime) -> np.ndarray:
    """The logits that follow, without any file."""
    original.reset()
    original.extend(IDS)
    return original.decode_step(5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kv_dtype": "q8_0", "block_size": 32},
        {"kv_dtype": "f32", "block_size": 5},
        {"device": "host:0"},
        {"device": "host:1", "kv_dtype": "q8_0"},
        {"device": "host:0", "gpu_layers": 1},
    ],
    ids=str,
)
def test_a_restored_sequence_goes_on_with_the_same_bits(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    kwargs = {"head_dim": 32} if options.get("kv_dtype") == "q8_0" else {}
    model = write_tiny_model(tmp_path / "tiny.gguf", "llama", "Q8_0", **kwargs)
    first, second = runtime(model, **options), runtime(model, **options)
    first.extend(IDS)
    first.save(tmp_path / "session")
    second.extend([9] * 50)  # what lies in its cache must not matter
    restored = second.restore(tmp_path / "session")
    assert (restored.num_tokens, restored.num_recomputed, restored.note) == (len(IDS), 0, None)
    assert second.token_ids == IDS
    assert np.array_equal(second.decode_step(5), first.decode_step(5))


@pytest.mark.parametrize("architecture", ["phi3", "deepseek2", "gemma3"])
def test_other_caches_and_rotations_are_restored_alike(tmp_path: Path, architecture: str) -> None:
    """Frequencies that are tensors of the file, latent attention, windows."""
    model = write_tiny_model(tmp_path / "tiny.gguf", architecture, "Q8_0")
    first, second = runtime(model), runtime(model)
    first.extend(IDS)
    first.save(tmp_path / "session")
    assert second.restore(tmp_path / "session").note is None
    assert np.array_equal(second.decode_step(5), first.decode_step(5))


def test_the_keys_and_values_are_read_and_not_computed(
    model: Path, original: ModelRuntime, saved: Path
) -> None:
    """A token of the file changed, checksums made right: the old keys and values show."""
    data = bytearray(saved.read_bytes())
    tokens = np.array(IDS, "<i4")
    tokens[0] += 1
    packed = bytearray(data[: HEADER.size])
    packed[-32:] = hashlib.sha256(tokens.tobytes()).digest()
    seal, blocks = hashlib.sha256(packed).digest(), data[BLOCKS_AT:]
    size = len(blocks) // 3
    for i in range(3):
        block = bytes(blocks[i * size + 32 : (i + 1) * size])
        digest = hashlib.sha256(seal + i.to_bytes(8, "little") + block).digest()
        blocks[i * size : i * size + 32] = digest
    saved.write_bytes(bytes(packed) + seal + tokens.tobytes() + bytes(blocks))
    other = runtime(model)
    assert other.restore(saved).num_recomputed == 0
    assert np.array_equal(other.decode_step(5), continued(original))


def test_a_damaged_block_ends_what_is_used_and_the_rest_is_computed(
    model: Path, original: ModelRuntime, saved: Path
) -> None:
    good, expected = saved.read_bytes(), continued(original)
    size = (len(good) - BLOCKS_AT) // 3
    other = runtime(model)
    for block in range(3):
        for at in (0, 31, 32, size - 1):  # of the checksum, of the bytes
            data = bytearray(good)
            data[BLOCKS_AT + block * size + at] ^= 1
            saved.write_bytes(data)
            restored = other.restore(saved)
            assert restored.num_recomputed == len(IDS) - 16 * block
            assert restored.note == f"block {block} of its keys and values is damaged"
            assert np.array_equal(other.decode_step(5), expected)


def test_a_file_cut_short_behind_its_tokens_is_computed_again(
    model: Path, original: ModelRuntime, saved: Path
) -> None:
    good, expected = saved.read_bytes(), continued(original)
    other = runtime(model)
    for size, computed in ((BLOCKS_AT, 41), (BLOCKS_AT + 40, 41), (len(good) - 1, 9)):
        saved.write_bytes(good[:size])
        assert other.restore(saved).num_recomputed == computed
        assert np.array_equal(other.decode_step(5), expected)


def test_blocks_that_change_places_are_not_taken(model: Path, saved: Path) -> None:
    good = saved.read_bytes()
    size = (len(good) - BLOCKS_AT) // 3
    a, b, c = (good[BLOCKS_AT + i * size : BLOCKS_AT + (i + 1) * size] for i in range(3))
    saved.write_bytes(good[:BLOCKS_AT] + b + a + c)
    assert runtime(model).restore(saved).num_recomputed == len(IDS)


@pytest.mark.parametrize(
    "options",
    [
        {"kv_dtype": "bf16"},
        {"block_size": 32},
        {"device": "host:0"},
        {"activations": "float"},
        {"deterministic": False},
    ],
    ids=str,
)
def test_other_options_compute_it_again_and_say_so(
    model: Path, saved: Path, options: dict[str, Any]
) -> None:
    other, alone = runtime(model, **options), runtime(model, **options)
    restored = other.restore(saved)
    assert restored.num_recomputed == len(IDS)
    assert "another model" in str(restored.note)
    alone.extend(IDS)
    assert np.array_equal(other.decode_step(5), alone.decode_step(5))


def test_another_model_of_the_same_shape_is_told_apart(tmp_path: Path, saved: Path) -> None:
    path = write_tiny_model(tmp_path / "other.gguf", "llama", "Q8_0", seed=1)
    assert runtime(path).restore(saved).num_recomputed == len(IDS)
    same = write_tiny_model(tmp_path / "moved.gguf", "llama", "Q8_0")
    assert runtime(same, max_model_len=64).restore(saved).num_recomputed == 0


def sealed(saved: bytes, at: int, value: bytes) -> bytes:
    """A header with other bytes and a right checksum."""
    packed = saved[:at] + value + saved[at + len(value) : HEADER.size]
    return packed + hashlib.sha256(packed).digest() + saved[TOKENS_AT:]


HOSTILE = {
    "empty": lambda s: s[:0],
    "half a header": lambda s: s[:50],
    "another kind": lambda s: b"GGUF" + s[4:],
    "a flipped bit": lambda s: s[:30] + bytes([s[30] ^ 1]) + s[31:],
    "another version": lambda s: sealed(s, 8, struct.pack("<I", 2)),
    "no block size": lambda s: sealed(s, 12, bytes(4)),
    "no tokens": lambda s: sealed(s, 24, bytes(8)),
    "more tokens than bytes": lambda s: sealed(s, 24, struct.pack("<Q", 2**63)),
    "fewer tokens": lambda s: sealed(s, 24, struct.pack("<Q", 1)),
    "small blocks": lambda s: sealed(s, 16, struct.pack("<Q", 1)),
    "bytes behind the end": lambda s: s + b"x",
    "a damaged token": lambda s: s[:TOKENS_AT] + b"\x7f" + s[TOKENS_AT + 1 :],
    "cut in the tokens": lambda s: s[: TOKENS_AT + 20],
}


def test_a_hostile_file_is_an_error_and_costs_nothing(
    model: Path, original: ModelRuntime, saved: Path
) -> None:
    other = runtime(model)
    other.extend([1, 2, 3])
    good = saved.read_bytes()
    for name, damage in HOSTILE.items():
        saved.write_bytes(damage(good))
        tracemalloc.start()
        with pytest.raises(ModelFileError, match=str(saved)):
            other.restore(saved)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20, name
        tracemalloc.stop()
        assert other.token_ids == [1, 2, 3], name
    assert np.array_equal(other.decode_step(4), _after(original, [1, 2, 3, 4]))


def _after(runtime: ModelRuntime, ids: list[int]) -> np.ndarray:
    runtime.reset()
    runtime.extend(ids[:3])
    return runtime.decode_step(ids[3])


def test_vast_blocks_are_not_read(model: Path, saved: Path) -> None:
    """A header of its own that claims blocks of 2^40 bytes: another model's, so none is looked at."""
    saved.write_bytes(sealed(saved.read_bytes(), 16, struct.pack("<Q", 2**40)))
    assert runtime(model).restore(saved).num_recomputed == len(IDS)


def test_tokens_that_the_model_lacks_are_an_error(model: Path, saved: Path) -> None:
    good = saved.read_bytes()
    for value in (515, -1):
        tokens = np.array([*IDS[:-1], value], "<i4").tobytes()
        data = good[:TOKENS_AT] + tokens + good[BLOCKS_AT:]
        saved.write_bytes(sealed(data, HEADER.size - 32, hashlib.sha256(tokens).digest()))
        with pytest.raises(ModelFileError, match=r"outside \[0, 515\)"):
            runtime(model).restore(saved)


def test_a_session_longer_than_the_context_is_refused(model: Path, saved: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="41 tokens; the context has 32"):
        runtime(model, max_model_len=32).restore(saved)


def test_only_regular_files_are_opened(model: Path, tmp_path: Path) -> None:
    other = runtime(model)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InvalidArgumentError, match="no regular file"):
            other.restore(path)
    with pytest.raises(OSError, match="none"):
        other.restore(tmp_path / "none")


def test_saving_replaces_the_whole_file_or_nothing(
    original: ModelRuntime, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = saved.read_bytes()
    assert saved.stat().st_mode & 0o777 == 0o600
    original.extend([1])

    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="No space"):
            original.save(saved)
    assert saved.read_bytes() == good
    assert list(saved.parent.iterdir()) == [saved]
    original.save(saved)
    assert saved.read_bytes() != good


def test_nothing_is_not_saved(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no token has been computed"):
        runtime(model).save(tmp_path / "session")


def test_what_is_no_file_is_never_replaced(original: ModelRuntime, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    original.extend(IDS[:1])
    for path in (pipe, tmp_path):
        with pytest.raises(InvalidArgumentError, match="no regular file"):
            original.save(path)
    assert [(path.name, path.is_fifo()) for path in tmp_path.iterdir()] == [("pipe", True)]
