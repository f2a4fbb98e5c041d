from __future__ import annotations

from pathlib import Path
from typing import Any

from kfd_tree import RX_7900_XTX, write_tree

from rocmforge.errors import UnsupportedError
from rocmforge.model.diagnosis import diagnose


def nothing_installed(driver: str) -> list[dict[str, Any]]:
    msg = f"no {driver} library"
    raise UnsupportedError(msg)


def test_a_machine_without_a_gpu_is_told_what_is_missing(tmp_path: Path) -> None:
    checks = {
        check.name: check for check in diagnose(tmp_path, tmp_path, list_devices=nothing_installed)
    }
    assert not any(check.ok for check in checks.values())
    assert checks["kernel driver"].detail == "the kernel module amdgpu is not loaded"
    assert checks["hip runtime"].detail == "no hip library"
    assert checks["code objects"].detail == "this build has none: it runs on the CPU"


def test_a_gpu_is_described_with_its_memory_and_its_display(tmp_path: Path) -> None:
    write_tree(tmp_path, [RX_7900_XTX])
    (tmp_path / "gfx1100.hsaco").write_bytes(b"code")
    checks = {
        check.name: check for check in diagnose(tmp_path, tmp_path, list_devices=nothing_installed)
    }
    assert checks["kernel driver"].ok
    assert checks["AMD GPU 0"].ok
    assert checks["AMD GPU 0"].detail.startswith(
        "gfx1100, at 0000:03:00, 24.0 GiB of its own, 31.0 GiB of the host's, drives a display"
    )
    assert checks["code objects"].detail == "gfx1100.hsaco"
    assert checks["hip:0"].detail == "no hip library"


def one_device(driver: str) -> list[dict[str, Any]]:
    if driver == "hip":
        return [{}]
    return nothing_installed(driver)


def test_a_runtime_with_devices_is_asked_for_its_matrix_library(tmp_path: Path) -> None:
    def find(driver: str) -> str:
        return f"a library for {driver}"

    def diagnosed(find: Any) -> dict[str, Any]:
        checks = diagnose(tmp_path, tmp_path, list_devices=one_device, matrix_library=find)
        return {check.name: check for check in checks}

    checks = diagnosed(find)
    assert checks["hip matrix library"].detail == "a library for hip"
    assert "cuda matrix library" not in checks
    missing = diagnosed(nothing_installed)["hip matrix library"]
    assert not missing.ok
    assert missing.detail.startswith("no hip library; own kernels")
