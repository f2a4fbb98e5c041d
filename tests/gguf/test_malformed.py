"""Damaged files: a clear error of the right kind, in little time and memory."""

from __future__ import annotations

import csv
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gguf_bytes.case import Case
from gguf_bytes.catalogue import catalogue
from gguf_bytes.tiny import tiny_model
from gguf_bytes.writer import ARRAY, STRING, U8, string, text
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf.header import (
    MAX_HEADER_BYTES,
    MAX_INNER_ARRAYS,
    MAX_KEYS,
    MAX_STRINGS,
    MAX_TENSORS,
)
from rocmforge.model import check_model

CASES = catalogue()
SECONDS = 2.0
SPARE_BYTES = 64 << 20
CHILD = Path(__file__).with_name("check_in_child.py")


def check_in_child(valid: Path, paths: list[Path]) -> dict[str, str]:
    """File name to "accept" or "reject", after a check of what each cost.

    Memory is that above a small valid file's; a file's metadata are at most its size.
    """
    command = [sys.executable, str(CHILD), str(valid), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    outcomes = {}
    for path, line in zip(paths, done.stdout.splitlines(), strict=True):
        name, outcome, seconds, peak = line.split("\t")
        assert name == path.name
        assert float(seconds) < SECONDS, name
        assert int(peak) <= SPARE_BYTES + 4 * path.stat().st_size, name
        outcomes[name] = outcome
    return outcomes


def test_catalogue_has_over_500_files_each_named_once() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 500


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_damaged_file_is_refused_for_the_right_reason(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.gguf"
    path.write_bytes(case.data)
    started = time.process_time()
    try:
        check_model(path)
        message = None
    except (ModelFileError, UnsupportedError) as error:
        message = str(error)
    assert time.process_time() - started < SECONDS
    if case.match is None:
        assert message is None
    else:
        assert message is not None
        assert re.search(case.match, message), message
        assert len(message) < 1000


def test_damaged_files_cost_little_time_and_memory(tmp_path: Path) -> None:
    valid = tmp_path / "valid.gguf"
    valid.write_bytes(tiny_model().build())
    paths = [tmp_path / f"{index}.gguf" for index in range(len(CASES))]
    for path, case in zip(paths, CASES, strict=True):
        path.write_bytes(case.data)
    outcomes = check_in_child(valid, paths)
    accepted = [outcome == "accept" for outcome in outcomes.values()]
    assert accepted == [case.match is None for case in CASES]


def test_shared_malformed_files_behave_as_their_manifest_says(testdata: Path) -> None:
    folder = testdata / "malformed"
    with (folder / "manifest.tsv").open() as lines:
        expected = {row["name"]: row["expect"] for row in csv.DictReader(lines, delimiter="\t")}
    outcomes = check_in_child(folder / "ok_base.gguf", [folder / f"{n}.gguf" for n in expected])
    wrong = {
        name: outcomes[f"{name}.gguf"]
        for name, wanted in expected.items()
        if wanted not in ("either", outcomes[f"{name}.gguf"])
    }
    assert not wrong
    assert len(expected) > 80


def header(num_tensors: int, *pairs: bytes, num_pairs: int | None = None) -> bytes:
    count = len(pairs) if num_pairs is None else num_pairs
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, count) + b"".join(pairs)


ARCHITECTURE = text(b"general.architecture") + string("llama")


def keys_file(count: int) -> tuple[bytes, int]:
    pairs = b"".join(text(b"%x" % i) + struct.pack("<IB", U8, 1) for i in range(count - 1))
    return header(0, ARCHITECTURE, pairs, num_pairs=count), 0


def tensors_file(count: int) -> tuple[bytes, int]:
    infos = [text(b"%x" % i) + struct.pack("<IQIQ", 1, 8, 0, 32 * i) for i in range(count)]
    return header(count, ARCHITECTURE, num_pairs=1) + b"".join(infos), 32 * count + 32


def array_file(value_type: int, count: int, nbytes: int) -> tuple[bytes, int]:
    value = struct.pack("<IIQ", ARRAY, value_type, count)
    return header(0, ARCHITECTURE, text(b"k") + value, num_pairs=2), nbytes


LIMIT_FILES = {
    "keys": (keys_file, MAX_KEYS, "no tensors"),
    "tensors": (tensors_file, MAX_TENSORS, "the embedding is missing"),
    # Zeros are empty strings and, as type and count, empty arrays of u8.
    "strings": (lambda n: array_file(STRING, n, 8 * n), MAX_STRINGS, "no tensors"),
    "inner_arrays": (lambda n: array_file(ARRAY, n, 12 * n), MAX_INNER_ARRAYS, "no tensors"),
    "long_array": (lambda n: array_file(U8, n, n), 100 << 20, "no tensors"),
}


@pytest.mark.parametrize("name", LIMIT_FILES)
def test_file_at_a_limit_is_read_in_time_and_one_beyond_is_refused(
    name: str, tmp_path: Path
) -> None:
    make, limit, message = LIMIT_FILES[name]
    paths = [tmp_path / "valid.gguf", tmp_path / "at.gguf", tmp_path / "beyond.gguf"]
    paths[0].write_bytes(tiny_model().build())
    beyond = limit + 1 if name != "long_array" else MAX_HEADER_BYTES + 1
    for path, count in zip(paths[1:], (limit, beyond), strict=True):
        data, nbytes = make(count)
        with path.open("wb") as file:
            file.write(data)
            file.truncate(len(data) + nbytes)
    assert set(check_in_child(paths[0], paths[1:]).values()) == {"reject"}
    with pytest.raises(ModelFileError, match=message):
        check_model(paths[1])
    with pytest.raises(ModelFileError, match=r"the limit is|hold more than|larger than"):
        check_model(paths[2])
