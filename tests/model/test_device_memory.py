from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocmforge import DeviceTensor, HipBackend, HipBuffer, InvalidArgumentError

MIB = 1 << 20


@pytest.fixture(params=["host:0", "host:1", "host:2"])
def backend(request: pytest.FixtureRequest) -> HipBackend:
    return HipBackend(request.param)


@pytest.mark.parametrize("shape", [(), (0,), (3, 5), (2, 1, 7), (3 * MIB // 8 + 1,)])
def test_a_tensor_comes_back_as_it_was(backend: HipBackend, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    tensor = backend.tensor(values)
    assert isinstance(tensor, DeviceTensor)
    got = tensor.numpy()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, values)


def test_a_view_is_a_part_of_the_same_memory(backend: HipBackend) -> None:
    buffer = backend.allocate(16)
    buffer.write(bytes(range(16)))
    view = buffer.view(4, 8).view(2, 3)
    assert isinstance(view, HipBuffer)
    assert view.read().tolist() == [6, 7, 8]
    view.write(b"\xff\xfe\xfd")
    assert buffer.read()[5:10].tolist() == [5, 255, 254, 253, 9]


def test_a_view_keeps_the_memory_of_its_buffer(backend: HipBackend) -> None:
    view = backend.tensor(np.arange(4, dtype=np.int32)).buffer.view(4, 4)
    backend.allocate(16).write(bytes(16))
    assert view.read().view(np.int32).tolist() == [1]


def test_buffers_of_one_device_are_copied_there(backend: HipBackend) -> None:
    source, target = backend.tensor(np.arange(8, dtype=np.uint8)).buffer, backend.allocate(3)
    target.copy_from(source.view(5, 3))
    assert target.read().tolist() == [5, 6, 7]


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 2), (0, 9), (8, 1), (4, 5), (0, -1)])
def test_a_view_beyond_its_buffer_is_refused(offset: int, nbytes: int) -> None:
    with pytest.raises(InvalidArgumentError, match="leaves a buffer of 8"):
        HipBackend("host:0").allocate(8).view(offset, nbytes)


def test_sizes_and_devices_have_to_agree() -> None:
    backend = HipBackend("host:0")
    buffer = backend.allocate(8)
    wrong: list[Any] = [
        lambda: buffer.write(bytes(7)),
        lambda: buffer.copy_from(backend.allocate(9)),
    ]
    for call in wrong:
        with pytest.raises(InvalidArgumentError, match="do not fill a buffer of 8"):
            call()
    with pytest.raises(InvalidArgumentError, match="by way of the host"):
        buffer.copy_from(HipBackend("host:0").allocate(8))


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="device is 'cpu'"):
        HipBackend("cpu")
    assert HipBackend.device_count("host") == len(HipBackend.device_properties("host")) == 4
