"""The emulated GPU's driver: copies, order, events, graphs, and the mistakes it has to catch."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from rocmforge import _native
from rocmforge.errors import (
    DeviceError,
    InvalidArgumentError,
    OutOfMemoryError,
    RocmForgeError,
    UnsupportedError,
)

gpu = _native.gpu
DEVICES = range(4)  # waves of 32 and 64, each running at once or delayed
DELAYED = (2, 3)


@pytest.fixture(params=DEVICES)
def driver(request: pytest.FixtureRequest) -> gpu.Driver:
    return gpu.Driver("host", request.param)


@pytest.fixture
def delayed() -> gpu.Driver:
    return gpu.Driver("host", DELAYED[0])


def pinned(driver: gpu.Driver, values: list[int]) -> gpu.Memory:
    memory = driver.allocate_pinned(len(values))
    memory.array[:] = values
    return memory


def test_bytes_come_back_from_the_device(driver: gpu.Driver) -> None:
    stream = driver.create_stream()
    source, back = pinned(driver, [1, 2, 3, 4, 5]), driver.allocate_pinned(5)
    first, second = driver.allocate(5), driver.allocate(5)
    driver.copy_to_device(first, source, 5, stream)
    driver.copy_on_device(second, first, 5, stream)
    driver.fill(first, 9, 2, stream)
    driver.copy_on_device(second, first, 1, stream)
    driver.copy_to_host(back, second, 5, stream)
    stream.synchronize()
    assert back.array.tolist() == [9, 2, 3, 4, 5]


def test_memory_nobody_has_written_is_no_number(driver: gpu.Driver) -> None:
    stream, back = driver.create_stream(), driver.allocate_pinned(16)
    driver.copy_to_host(back, driver.allocate(16), 16, stream)
    stream.synchronize()
    assert np.isnan(back.array.view(np.float32)).all()


@pytest.mark.parametrize("ordinal", DELAYED)
def test_a_delaying_device_does_nothing_before_somebody_waits(ordinal: int) -> None:
    driver = gpu.Driver("host", ordinal)
    stream, back = driver.create_stream(), driver.allocate_pinned(4)
    memory = driver.allocate(4)
    driver.fill(memory, 7, 4, stream)
    driver.copy_to_host(back, memory, 4, stream)
    assert back.array.tolist() == [255] * 4
    stream.synchronize()
    assert back.array.tolist() == [7] * 4


def test_a_host_write_to_memory_that_a_queued_copy_reads_is_reported(delayed: gpu.Driver) -> None:
    stream, source, memory = (
        delayed.create_stream(),
        pinned(delayed, [1] * 64),
        delayed.allocate(64),
    )
    delayed.copy_to_device(memory, source, 64, stream)
    source.array[63] = 2
    with pytest.raises(RocmForgeError, match="host has written to 64 bytes of pinned memory"):
        stream.synchronize()


def test_a_host_write_after_the_copy_is_done_is_not_reported(delayed: gpu.Driver) -> None:
    stream, source, memory = (
        delayed.create_stream(),
        pinned(delayed, [1] * 64),
        delayed.allocate(64),
    )
    copied = delayed.create_event()
    delayed.copy_to_device(memory, source, 64, stream)
    copied.record(stream)
    copied.synchronize()
    source.array[0] = 2
    stream.synchronize()


def test_an_event_is_done_when_the_work_before_it_is(delayed: gpu.Driver) -> None:
    stream, event = delayed.create_stream(), delayed.create_event()
    assert event.done()  # never recorded
    back, memory = delayed.allocate_pinned(1), delayed.allocate(1)
    delayed.fill(memory, 3, 1, stream)
    delayed.copy_to_host(back, memory, 1, stream)
    event.record(stream)
    delayed.fill(memory, 4, 1, stream)
    polls = 1
    while not event.done():
        polls += 1
    assert polls == 3  # a piece of work each: fill, copy, the event itself
    assert back.array[0] == 3
    assert not stream.done() or polls == 3


def test_a_stream_waits_for_the_event_of_another(delayed: gpu.Driver) -> None:
    first, second = delayed.create_stream(), delayed.create_stream()
    ready = delayed.create_event()
    memory, back = delayed.allocate(1), delayed.allocate_pinned(1)
    delayed.fill(memory, 5, 1, first)
    ready.record(first)
    ready.hold(second)
    delayed.copy_to_host(back, memory, 1, second)
    second.synchronize()
    assert back.array[0] == 5


def test_without_the_event_the_other_streams_work_is_not_waited_for(delayed: gpu.Driver) -> None:
    first, second = delayed.create_stream(), delayed.create_stream()
    memory, back = delayed.allocate(1), delayed.allocate_pinned(1)
    delayed.fill(memory, 5, 1, first)
    delayed.copy_to_host(back, memory, 1, second)
    second.synchronize()
    assert back.array[0] == 255


def test_time_between_events_is_not_negative(driver: gpu.Driver) -> None:
    stream, start, end = driver.create_stream(), driver.create_event(), driver.create_event()
    start.record(stream)
    end.record(stream)
    end.synchronize()
    assert 0 <= end.ms_since(start) < 10_000


def test_a_graph_replays_what_was_recorded_and_nothing_ran_meanwhile(driver: gpu.Driver) -> None:
    stream, memory, back = driver.create_stream(), driver.allocate(2), driver.allocate_pinned(2)
    source = pinned(driver, [1, 2])
    stream.begin_capture()
    driver.copy_to_device(memory, source, 2, stream)
    driver.copy_to_host(back, memory, 2, stream)
    graph = stream.end_capture()
    stream.synchronize()
    assert back.array.tolist() == [255, 255]
    for values in ([1, 2], [3, 4]):
        source.array[:] = values
        graph.launch(stream)
        stream.synchronize()
        assert back.array.tolist() == values


@pytest.mark.parametrize("call", ["copy_to_device", "copy_to_host", "copy_on_device", "fill"])
def test_a_copy_beyond_its_memory_is_refused(driver: gpu.Driver, call: str) -> None:
    stream = driver.create_stream()
    small, large = driver.allocate(8), driver.allocate(64)
    host = driver.allocate_pinned(64)
    operands = {
        "copy_to_device": (small, host),
        "copy_to_host": (host, small),
        "copy_on_device": (large, small),
        "fill": (small, 0),
    }
    with pytest.raises(InvalidArgumentError, match="a copy leaves its memory"):
        getattr(driver, call)(*operands[call], 64, stream)


def test_a_copy_from_memory_that_is_not_pinned_is_refused(driver: gpu.Driver) -> None:
    on_device = driver.allocate(8)
    with pytest.raises(DeviceError, match="pinned host memory"):
        driver.copy_to_device(on_device, on_device, 8, driver.create_stream())


def test_a_read_behind_the_end_of_an_allocation_ends_the_process() -> None:
    code = (
        "import ctypes\n"
        "from rocmforge import _native\n"
        "driver = _native.gpu.Driver('host', 0)\n"
        "memory = driver.allocate(64)\n"
        "read = lambda i: ctypes.c_char.from_address(driver.address(memory) + i).value\n"
        "read(63)\n"
        "print('within', flush=True)\n"
        "read(64)\n"
        "print('beyond', flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "within\n"
    assert ended.returncode == -signal.SIGSEGV


def test_what_is_not_there_is_named(driver: gpu.Driver) -> None:
    with pytest.raises(UnsupportedError, match="no kernel rf_nothing_w32"):
        driver.launch("rf_nothing_w32", b"", 1, 256, driver.create_stream())
    with pytest.raises(DeviceError, match="no device 4"):
        gpu.Driver("host", 4)
    with pytest.raises(InvalidArgumentError, match=r"'metal'.*'hip', 'cuda' or 'host'"):
        gpu.Driver("metal", 0)


def test_an_argument_struct_of_another_size_is_refused() -> None:
    driver = gpu.Driver("host", 0)
    stream = driver.create_stream()
    with pytest.raises(DeviceError, match="rf_add_w32"):
        driver.launch("rf_add_w32", bytes(4), 1, 256, stream)


def test_properties_say_how_wide_waves_are() -> None:
    assert [d["wave_size"] for d in gpu.devices("host")] == [32, 64, 32, 64]


def test_an_allocation_that_fails_says_how_large_it_was(driver: gpu.Driver) -> None:
    gpu.emulate_fault("memory", 2)
    driver.allocate(1)
    with pytest.raises(OutOfMemoryError, match="12345 bytes of device memory"):
        driver.allocate(12345)
    driver.allocate(1)


def test_a_lost_device_stays_lost() -> None:
    driver = gpu.Driver("host", 0)
    stream, memory = driver.create_stream(), driver.allocate(1)
    gpu.emulate_fault("device", 2)
    driver.fill(memory, 1, 1, stream)
    try:
        for _ in range(3):
            with pytest.raises(DeviceError, match="lost on purpose"):
                driver.fill(memory, 1, 1, stream)
    finally:
        gpu.emulate_fault("device", 0)
    driver.fill(memory, 1, 1, stream)
