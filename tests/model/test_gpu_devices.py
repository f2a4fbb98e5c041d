from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfd_tree import MI300X, PHOENIX, RX_7900_XTX, Gpu, write_tree

from rocmforge.errors import DeviceError, UnsupportedError
from rocmforge.model.gpu_devices import GpuDevice, code_object, emulated_gpus, find_gpus

ListDevices = Callable[[str], list[dict[str, Any]]]


def listed(gpu: Gpu, name: str = "AMD Radeon") -> dict[str, Any]:
    """As the HIP runtime describes a GPU."""
    return {
        "name": name,
        "wave_size": 32,
        "pci": (gpu.domain, gpu.bus, 0),
        "capability": (11, 0),
        "run_time_limit": False,
        "integrated": False,
        "free_bytes": 20 << 30,
        "total_bytes": 24 << 30,
    }


def runtimes(
    hip: list[dict[str, Any]] | None = None, cuda: list[dict[str, Any]] | None = None
) -> ListDevices:
    """None: the library is not installed."""

    def list_devices(driver: str) -> list[dict[str, Any]]:
        devices = {"hip": hip, "cuda": cuda}[driver]
        if devices is None:
            msg = f"no {driver} library"
            raise UnsupportedError(msg)
        return devices

    return list_devices


def folder_of(root: Path, *names: str) -> Path:
    folder = root / "kernels"
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"code")
    return folder


def hip_devices(
    root: Path, folder: Path, list_devices: ListDevices, **options: Any
) -> list[GpuDevice]:
    found = find_gpus(root, folder, list_devices=list_devices, **options)
    return [gpu for gpu in found if gpu.driver == "hip"]


def test_a_gpu_with_everything_is_usable(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])
    folder = folder_of(tmp_path, "gfx1100.hsaco")
    (gpu,) = hip_devices(tmp_path, folder, runtimes([listed(RX_7900_XTX)]))
    assert (gpu.name, gpu.problem) == ("hip:0", None)
    assert gpu.code_object == folder / "gfx1100.hsaco"
    assert gpu.memory_bytes == 20 << 30
    assert gpu.description == "AMD Radeon, gfx1100, free memory: 20.0 GiB, drives a display"


def test_a_display_leaves_a_model_less_memory(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX, MI300X])
    folder = folder_of(tmp_path, "gfx1100.hsaco", "gfx942.hsaco")
    found = hip_devices(tmp_path, folder, runtimes([listed(RX_7900_XTX), listed(MI300X)]))
    assert [gpu.memory_share for gpu in found] == [0.7, 0.9]


@pytest.mark.parametrize(
    ("total_gib", "host_gib", "free_gib"),
    [
        (1, 50, 0.5),  # a kernel that allocates from what is set aside alone
        (31, 50, 20),  # from the host's memory: what the runtime has left
        (31, 6, 6),  # and no more than the host has
    ],
)
def test_an_apu_has_what_is_set_aside_for_it_or_what_the_host_has(
    tmp_path: Path, total_gib: int, host_gib: int, free_gib: float
) -> None:
    write_tree(tmp_path, [PHOENIX])
    free = (20 << 30) if total_gib > 1 else (1 << 29)
    apu = {
        **listed(PHOENIX, "Radeon 780M"),
        "integrated": True,
        "total_bytes": total_gib << 30,
        "free_bytes": free,
    }
    (gpu,) = hip_devices(
        tmp_path,
        folder_of(tmp_path, "gfx1103.hsaco"),
        runtimes([apu]),
        available=lambda: host_gib << 30,
    )
    assert gpu.memory_bytes == free_gib * 2**30
    assert gpu.shares_host_memory == (total_gib > 1)
    assert ("of the host's" in gpu.description) == (total_gib > 1)


def test_the_runtimes_order_is_matched_to_the_kernels_by_pci_address(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX, MI300X])
    folder = folder_of(tmp_path, "gfx1100.hsaco", "gfx942.hsaco")
    found = hip_devices(tmp_path, folder, runtimes([listed(MI300X), listed(RX_7900_XTX)]))
    assert [gpu.code_object.stem for gpu in found if gpu.code_object] == ["gfx942", "gfx1100"]


@pytest.mark.parametrize(
    ("tree", "hip", "reason"),
    [
        ({"module": False, "kfd": False}, [], "the kernel module amdgpu is not loaded"),
        ({"kfd": False}, [], "there is no /dev/kfd"),
        ({}, None, "no hip library"),
        ({}, [], "the HIP runtime lists no GPU"),
    ],
)
def test_each_thing_that_is_missing_is_the_reason(
    tmp_path: Path, tree: dict[str, bool], hip: list[dict[str, Any]] | None, reason: str
) -> None:
    write_tree(tmp_path, [RX_7900_XTX], **tree)
    found = hip_devices(tmp_path, folder_of(tmp_path, "gfx1100.hsaco"), runtimes(hip))
    assert len(found) == 1
    assert reason in str(found[0].problem)
    assert found[0].code_object is None


def test_without_permission_the_gpu_is_listed_and_not_usable(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])
    folder = folder_of(tmp_path, "gfx1100.hsaco")
    for denied in ("kfd", "renderD128"):
        (gpu,) = hip_devices(
            tmp_path,
            folder,
            runtimes([listed(RX_7900_XTX)]),
            access=lambda path, _mode, denied=denied: path.name != denied,
        )
        assert gpu.name == "hip:0"
        assert f"{denied}: become a member of its group" in str(gpu.problem)


def test_a_missing_code_object_names_the_target_and_what_was_built(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])
    folder = folder_of(tmp_path, "gfx942.hsaco", "gfx90a.hsaco", "sm_90.cubin")
    (gpu,) = hip_devices(tmp_path, folder, runtimes([listed(RX_7900_XTX)]))
    assert gpu.problem == "no code object for gfx1100; this build has: gfx90a, gfx942"


def test_a_generic_code_object_serves_a_target_that_has_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "gfx11-generic.hsaco", "gfx1100.hsaco")
    assert code_object(folder, "gfx1103", ".hsaco").stem == "gfx11-generic"
    assert code_object(folder, "gfx1100", ".hsaco").stem == "gfx1100"
    with pytest.raises(UnsupportedError, match=r"gfx1201; this build has: gfx11-generic, gfx1100"):
        code_object(folder, "gfx1201", ".hsaco")
    with pytest.raises(UnsupportedError, match=r"sm_90; this build has: none"):
        code_object(folder, "sm_90", ".cubin")


def test_a_gpu_the_kernel_does_not_list_is_not_usable(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])
    (gpu,) = hip_devices(tmp_path, folder_of(tmp_path), runtimes([listed(PHOENIX)]))
    assert "does not name its instruction set" in str(gpu.problem)


def test_a_runtime_that_fails_is_the_reason(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])

    def list_devices(driver: str) -> list[dict[str, Any]]:
        msg = f"{driver}Init failed with 101: invalid device ordinal"
        raise DeviceError(msg)

    found = find_gpus(tmp_path, folder_of(tmp_path), list_devices=list_devices)
    assert [gpu.problem for gpu in found] == [
        "hipInit failed with 101: invalid device ordinal",
        "cudaInit failed with 101: invalid device ordinal",
    ]


def test_an_nvidia_gpu_is_found_without_the_kernels_tree(tmp_path: Path) -> None:
    h200 = {**listed(MI300X, "NVIDIA H200"), "capability": (9, 0)}
    folder = folder_of(tmp_path, "sm_90.cubin")
    amd, gpu = find_gpus(tmp_path, folder, list_devices=runtimes(None, [h200]))
    assert amd.problem is not None
    assert (gpu.name, gpu.problem) == ("cuda:0", None)
    assert gpu.code_object == folder / "sm_90.cubin"
    _, gpu = find_gpus(tmp_path, tmp_path, list_devices=runtimes(None, [h200]))
    assert gpu.problem == "no code object for sm_90; this build has: none"


def test_the_emulation_is_always_there_in_both_wave_sizes() -> None:
    found = emulated_gpus()
    assert [(gpu.name, gpu.wave_size) for gpu in found[:2]] == [("host:0", 32), ("host:1", 64)]
    assert all(gpu.problem is None for gpu in found)
