"""The drivers that open a vendor's library, on a library that only pretends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from rocmforge import _native
from rocmforge.errors import UnsupportedError

SOURCE = Path(__file__).with_name("fake_runtime.c")
NATIVE = Path(__file__).resolve().parents[2] / "native"
# hip/hip_runtime_api.h and cuda.h: wave size, PCI domain, bus and device, capability.
ATTRIBUTES = {"hip": (87, [69, 67, 68], [23, 61]), "cuda": (10, [50, 33, 34], [75, 76])}
LIBRARIES = {"hip": "libamdhip64.so.7", "cuda": "libcuda.so.1"}

SCRIPT = """
import json, struct, sys
from rocmforge import _native, errors
gpu, name = _native.gpu, sys.argv[1]
out = {"devices": gpu.devices(name)}
driver = gpu.Driver(name, 1)
stream, event, start = driver.create_stream(), driver.create_event(), driver.create_event()
source, back = driver.allocate_pinned(64), driver.allocate_pinned(64)
memory, other = driver.allocate(64), driver.allocate(64)
source.array[:] = range(64)
driver.copy_to_device(memory, source, 64, stream)
driver.copy_on_device(other, memory, 64, stream)
driver.fill(other, 200, 2, stream)
driver.copy_to_host(back, other, 64, stream)
stream.synchronize()
out["back"] = back.array.tolist()
start.record(stream); event.record(stream); event.hold(stream); event.synchronize()
out["polls"] = [event.done(), event.done()]
out["stream"] = stream.done()
out["ms"] = event.ms_since(start)
source.array[:] = 0
driver.launch("rf_count_w32", struct.pack("P", driver.address(source)), 3, 256, stream)
out["sum"] = source.array.view("int32")[0].item()
stream.begin_capture()
graph = stream.end_capture()
graph.launch(stream); graph.launch(stream)
def error(call):
    try:
        call()
    except errors.RocmForgeError as e:
        return [type(e).__name__, str(e)]
out["errors"] = [
    error(lambda: driver.launch("rf_other_w32", b"", 1, 256, stream)),
    error(lambda: driver.allocate(1 << 20)),
    error(lambda: driver.allocate_pinned(1 << 20)),
    error(lambda: graph.launch(stream)),
]
print(json.dumps(out))
"""


def compiled(folder: Path, library: str, *options: str) -> dict[str, str]:
    """The environment in which the fake library is found."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: driver_hip.cpp and driver_cuda.cpp run against no library")
    command = [compiler, "-shared", "-fPIC", "-o", folder / library, SOURCE, *options]
    subprocess.run(command, check=True)
    package = Path(_native.__file__).resolve().parents[1]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": str(package),
        "FAKE_LIMIT": "65536",
    }


@pytest.mark.parametrize("name", ["hip", "cuda"])
def test_every_call_reaches_the_library_with_its_arguments(tmp_path: Path, name: str) -> None:
    environment = compiled(tmp_path, LIBRARIES[name], *(["-DCUDA"] if name == "cuda" else []))
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    out: dict[str, Any] = json.loads(ran.stdout)
    wave, pci, capability = ATTRIBUTES[name]
    first, second = out["devices"]
    assert (first["name"], first["wave_size"]) == ("fake 0", wave)
    assert (first["pci"], first["capability"]) == (pci, capability)
    assert second["pci"] == [n + 1000 for n in pci]
    assert [d["free_bytes"] for d in out["devices"]] == [70, 71]
    assert out["back"] == [200, 200, *range(2, 64)]
    assert out["polls"] == [False, True]
    assert out["stream"] is True
    assert out["ms"] == 2.5
    assert out["sum"] == 3 * 1000 + 256
    kernel, device, pinned, graph = out["errors"]
    assert kernel == ["UnsupportedError", "the code object has no kernel rf_other_w32"]
    assert device == ["OutOfMemoryError", "cannot allocate 1048576 bytes of device memory"]
    assert pinned == ["OutOfMemoryError", "cannot allocate 1048576 bytes of pinned host memory"]
    assert graph[0] == "DeviceError"
    assert graph[1].endswith("GraphLaunch failed with 719: launch failure")


def test_a_library_that_lacks_a_symbol_is_named_with_it(tmp_path: Path) -> None:
    environment = compiled(tmp_path, "libamdhip64.so.6", "-DWITHOUT_ERROR_STRING")
    code = "from rocmforge import _native; _native.gpu.devices('hip')"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True
    )
    assert "UnsupportedError: libamdhip64.so.6 lacks hipGetErrorString" in ran.stderr


def test_a_missing_library_is_an_error_that_says_what_was_tried() -> None:
    if find_library("cuda"):
        pytest.skip("this machine has CUDA")
    with pytest.raises(
        UnsupportedError, match=r"no CUDA library: tried libcuda.so.1, libcuda.so \("
    ):
        _native.gpu.devices("cuda")


@pytest.mark.parametrize("symbol", ["hipDeviceSynchronize", '"hipMemcpy"', "cuCtxSynchronize"])
def test_nothing_waits_for_a_whole_device_or_copies_while_the_host_waits(symbol: str) -> None:
    sources = [*NATIVE.rglob("*.cpp"), *NATIVE.rglob("*.hpp")]
    assert any("hipMemcpyAsync" in path.read_text() for path in sources)
    assert not [path for path in sources if symbol in path.read_text()]
