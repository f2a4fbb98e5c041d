"""`rocmforge quantize`: the files it writes, and what it leaves when it does not."""

from __future__ import annotations

import resource
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from reference.blocks import decode
from reference.tiny_models import write_tiny_model
from rocmforge.gguf import GGUFFile


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantize") / "source.gguf"
    return write_tiny_model(path, "llama", "F16", dim=256, feed_forward=512)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantize") / "experts.gguf"
    return write_tiny_model(path, "qwen3moe", "F16", dim=256, feed_forward=256)


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: decode(t.data, t.tensor_type) for t in GGUFReader(path).tensors}


def importance_file(path: Path, names: dict[str, np.ndarray]) -> Path:
    data = struct.pack("<i", len(names))
    for name, values in names.items():
        raw = name.encode()
        data += struct.pack("<i", len(raw)) + raw + struct.pack("<ii", 1, values.size)
        data += values.astype("<f4").tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("type_name", "bound"),
    [("F32", 0), ("BF16", 0.002), ("Q8_0", 0.01), ("Q6_K", 0.02), ("Q4_K_M", 0.08), ("Q2_K", 0.3)],
)
def test_every_weight_is_near_and_everything_else_the_same(
    run: Any, source: Path, tmp_path: Path, type_name: str, bound: float
) -> None:
    target = tmp_path / "out.gguf"
    report = run("quantize", source, target, type_name, "--json").json
    assert report["size_bytes"] == target.stat().st_size
    old, new = weights(source), weights(target)
    assert list(old) == list(new)
    for name, expected in old.items():
        assert new[name].shape == expected.shape
        off = np.sqrt(((new[name] - expected) ** 2).mean() / (expected**2).mean())
        assert off <= bound, name
    with GGUFFile.open(source) as before, GGUFFile.open(target) as after:
        changed = {"general.file_type", "general.quantization_version"}
        kept = {key: before.metadata.raw(key) for key in before.metadata if key not in changed}
        now = {key: after.metadata.raw(key) for key in after.metadata if key not in changed}
        assert kept == now
        assert after.metadata["general.quantization_version"] == 2


def test_what_is_written_runs(run: Any, story_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "story.gguf"
    ran = run("quantize", story_model, target, "Q8_0")
    assert ran.exit_code == 0
    assert "bits a weight" in ran.out
    assert "have been quantized before" in ran.err
    options = ["--max-tokens", "4", "--temperature", "0", "--json"]
    ran = run("generate", "Once upon a time", "--model", target, *options)
    assert ran.json["text"].startswith(" there was a")


def test_experts_take_their_own_importance(run: Any, experts: Path, tmp_path: Path) -> None:
    old = weights(experts)
    name = "blk.0.ffn_up_exps.weight"
    count, _, columns = old[name].shape
    # Of expert 0 the even columns matter, of the others the odd ones.
    values = np.full((count, columns), 0.01)
    values[0, ::2] = 100.0
    values[1:, 1::2] = 100.0
    imatrix = importance_file(tmp_path / "imatrix.dat", {name: values.reshape(-1)})
    target = tmp_path / "out.gguf"
    ran = run("quantize", experts, target, "Q4_K", "--imatrix", imatrix)
    assert "the importance matrix lacks token_embd.weight" in ran.err
    misses = ((weights(target)[name] - old[name]) ** 2).reshape(count, -1, columns // 2, 2)
    even, odd = misses.mean(axis=(1, 2)).T
    assert even[0] < 0.9 * odd[0]
    assert (odd[1:] < 0.9 * even[1:]).all()
    with GGUFFile.open(target) as file:
        assert file.metadata["quantize.imatrix.entries_count"] == 1


def test_the_importance_of_another_model_is_refused(run: Any, source: Path, tmp_path: Path) -> None:
    names = {"blk.0.attn_q.weight": np.ones(100)}
    imatrix = importance_file(tmp_path / "imatrix.dat", names)
    ran = run("quantize", source, tmp_path / "out.gguf", "Q4_K", "--imatrix", imatrix)
    assert ran.exit_code == 1
    assert "100 values for the tensor, which has 256 columns" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["imatrix.dat"]


def test_a_dry_run_tells_the_exact_size_and_writes_nothing(
    run: Any, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.gguf"
    told = run("quantize", source, target, "Q5_K_M", "--dry-run", "--json").json
    assert not target.exists()
    assert told["seconds"] is None
    done = run("quantize", source, target, "Q5_K_M", "--json").json
    assert told["size_bytes"] == done["size_bytes"] == target.stat().st_size


@pytest.mark.parametrize("threads", [1, 3])
def test_the_bytes_do_not_depend_on_threads(
    run: Any, source: Path, tmp_path: Path, threads: int
) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    run("quantize", source, first, "Q3_K_M")
    run("quantize", source, second, "Q3_K_M", "--threads", threads)
    assert first.read_bytes() == second.read_bytes()


def test_a_weight_that_is_no_number_is_told_with_its_tensor(
    run: Any, source: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    data = bytearray(source.read_bytes())
    with GGUFFile.open(source) as file:
        place = file.tensors["blk.1.ffn_up.weight"].offset
    data[place : place + 2] = b"\0\x7e"
    damaged.write_bytes(data)
    ran = run("quantize", damaged, tmp_path / "out.gguf", "Q4_0")
    assert ran.exit_code == 1
    assert "a weight is not a number" in ran.err
    assert "blk.1.ffn_up.weight" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.gguf"]


def test_wrong_use_is_refused_before_any_work(run: Any, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    for arguments, expected in [
        ((source, target, "Q9"), "type 'Q9' is none of F32"),
        ((source, source, "Q4_0"), "is the file that is read"),
        ((source, target, "Q4_0", "--threads", "0"), "--threads is 0"),
        ((source, tmp_path / "none" / "out.gguf", "Q4_0"), "No such file"),
        ((source, target, "Q4_0", "--imatrix", tmp_path / "none"), "No such file"),
        ((tmp_path / "none.gguf", target, "Q4_0"), "does not exist"),
    ]:
        ran = run("quantize", *arguments)
        assert ran.exit_code == 2, arguments
        assert expected in ran.err
    assert list(tmp_path.iterdir()) == []
    assert GGUFFile.open(source).tensors


def test_a_limit_of_the_system_is_told_and_leaves_nothing_behind(
    interruptible: list[str], source: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for a full disk."""
    ran = subprocess.run(
        [*interruptible, "quantize", str(source), str(tmp_path / "out.gguf"), "Q8_0"],
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "out.gguf cannot be written: File too large" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_behind(
    interruptible: list[str], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    # A sparse file of zeros: large enough to take seconds, at no cost of a disk.
    big = tmp_path_factory.mktemp("big") / "big.gguf"
    rows = 1 << 17
    name = b"token_embd.weight"
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", len(name)) + name
    header += struct.pack("<IQQIQ", 2, 4096, rows, 1, 0)
    with big.open("wb") as stream:
        stream.write(header)
        stream.truncate(-(-len(header) // 32) * 32 + rows * 4096 * 2)
    arguments = ["quantize", str(big), str(tmp_path / "out.gguf"), "Q2_K", "--pure"]
    child = subprocess.Popen([*interruptible, *arguments], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.iterdir()):
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted" in told
    assert list(tmp_path.iterdir()) == []
