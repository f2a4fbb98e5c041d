"""Arenas: whole pages, a budget, memory that comes back; copies through pinned staging."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from rocmforge import _native
from rocmforge.errors import OutOfMemoryError

PAGE = 4096
MIB = 1 << 20


def arena(limit: int = 64 * MIB, chunk: int = MIB, ordinal: int = 0) -> _native.gpu.Arena:
    return _native.gpu.Arena("host", ordinal, limit, chunk)


def test_pieces_are_aligned_and_do_not_overlap() -> None:
    pool, rng = arena(), random.Random(1)
    pieces = [(pool.allocate(n), n) for n in (rng.randint(1, 3 * PAGE) for _ in range(200))]
    assert all(address % 16 == 0 for address, _ in pieces)
    pieces.sort()
    ends = [address + n for address, n in pieces]
    assert all(end <= address for end, (address, _) in zip(ends, pieces[1:], strict=False))


def test_freed_memory_is_used_again_in_the_same_chunk() -> None:
    pool, rng = arena(), random.Random(2)
    held = [pool.allocate(PAGE) for _ in range(100)]
    chunks, used = pool.num_chunks, pool.bytes_used
    for _ in range(2000):
        pool.free(held.pop(rng.randrange(len(held))))
        held.append(pool.allocate(PAGE))
    assert (pool.num_chunks, pool.bytes_used) == (chunks, used)
    for address in held:
        pool.free(address)
    assert pool.bytes_used == 0
    # Neighbouring gaps have become one: a piece of nearly a whole chunk fits.
    pool.allocate(MIB - 8 * PAGE)
    assert pool.num_chunks == chunks


def test_what_the_budget_does_not_hold_is_refused_and_nothing_changes() -> None:
    pool = arena(limit=2 * MIB)
    address = pool.allocate(MIB)
    before = pool.bytes_reserved, pool.bytes_used
    with pytest.raises(OutOfMemoryError, match=f"of {2 * MIB} bytes left.*the pieces of a test"):
        pool.allocate(2 * MIB)
    assert (pool.bytes_reserved, pool.bytes_used) == before
    pool.free(address)
    pool.allocate(MIB)


def test_a_device_without_memory_is_an_error_and_nothing_changes() -> None:
    pool = arena()
    _native.gpu.emulate_fault("memory", 1)
    with pytest.raises(OutOfMemoryError, match="bytes of device memory"):
        pool.allocate(10)
    assert (pool.bytes_reserved, pool.bytes_used) == (0, 0)
    pool.allocate(10)


@pytest.mark.parametrize("ordinal", range(4))
@pytest.mark.parametrize("size", [1, 4 * MIB - 1, 4 * MIB + 1, 13 * MIB])
def test_data_survives_the_way_through_staging(ordinal: int, size: int) -> None:
    pool = arena(ordinal=ordinal)
    data = random.Random(size).randbytes(size)
    other = bytes(reversed(data))
    first, second = pool.allocate(size), pool.allocate(size)
    pool.write(first, data)
    pool.write(second, other)
    assert pool.read(first, size) == data
    assert pool.read(second, size) == other


def test_a_read_behind_the_end_of_a_piece_ends_the_process() -> None:
    code = (
        "import ctypes\n"
        "from rocmforge import _native\n"
        "pool = _native.gpu.Arena('host', 0, 1 << 24, 1 << 20)\n"
        "address, behind = pool.allocate(48), pool.allocate(48)\n"
        "read = lambda i: ctypes.c_char.from_address(address + i).value\n"
        "read(47)\n"
        "print('within', flush=True)\n"
        "read(48)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "within\n"
    assert ended.returncode == -signal.SIGSEGV
