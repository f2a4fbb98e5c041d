from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest
from kfd_tree import MI210, MI300X, PHOENIX, RX_7900_XTX, write_tree

from rocmforge.model.amdgpu import amd_gpus, missing_for_compute, missing_for_gpu, target_name


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (110000, "gfx1100"),
        (110501, "gfx1151"),
        (120001, "gfx1201"),
        (100300, "gfx1030"),
        (90006, "gfx906"),
        (90010, "gfx90a"),
        (90402, "gfx942"),
        (90500, "gfx950"),
    ],
)
def test_a_version_number_is_a_target_of_llvm(version: int, name: str) -> None:
    assert target_name(version) == name


def test_gpus_are_listed_in_the_kernels_order_without_cpus(tmp_path: Path) -> None:
    gpus = amd_gpus(write_tree(tmp_path, [RX_7900_XTX, MI300X, MI210]))
    assert [gpu.target for gpu in gpus] == ["gfx1100", "gfx942", "gfx90a"]
    assert [gpu.pci for gpu in gpus] == [(0, 3, 0), (2, 0x0C, 0), (0, 0x41, 0)]
    assert gpus[1].render_node == tmp_path / "dev/dri/renderD129"


def test_only_a_connected_connector_of_the_same_card_is_a_display(tmp_path: Path) -> None:
    gpus = amd_gpus(write_tree(tmp_path, [RX_7900_XTX, MI300X]))
    assert [gpu.drives_display for gpu in gpus] == [True, False]


def test_an_apu_has_little_memory_of_its_own_and_much_of_the_hosts(tmp_path: Path) -> None:
    (apu,) = amd_gpus(write_tree(tmp_path, [PHOENIX]))
    assert (apu.vram_bytes, apu.gtt_bytes) == (1 << 30, 31 << 30)


def test_a_tree_without_the_driver_has_no_gpus(tmp_path: Path) -> None:
    assert amd_gpus(tmp_path) == []
    assert amd_gpus(write_tree(tmp_path, [])) == []


def test_what_the_kernel_lacks_is_said_in_order(tmp_path: Path) -> None:
    assert "module amdgpu is not loaded" in str(missing_for_compute(tmp_path))
    write_tree(tmp_path, [MI210], kfd=False)
    assert "there is no /dev/kfd" in str(missing_for_compute(tmp_path))
    write_tree(tmp_path, [MI210])
    assert missing_for_compute(tmp_path) is None


def test_a_permission_names_the_group_and_its_number(tmp_path: Path) -> None:
    root = write_tree(tmp_path, [MI210])
    (gpu,) = amd_gpus(root)
    number = (root / "dev/kfd").stat().st_gid
    group = f"{grp.getgrgid(number).gr_name} (number {number})"

    def denied(_path: Path, mode: int) -> bool:
        assert mode == os.R_OK | os.W_OK
        return False

    assert missing_for_compute(root, denied) == (
        f"no permission for /dev/kfd: become a member of its group {group}"
    )
    assert missing_for_gpu(gpu, root, denied) == (
        f"no permission for /dev/dri/renderD130: become a member of its group {group}"
    )
    assert missing_for_gpu(gpu, root) is None


def test_a_group_that_only_the_host_knows_has_its_number_alone(tmp_path: Path) -> None:
    root = write_tree(tmp_path, [MI210])
    if os.geteuid() != 0:
        pytest.skip("giving a file to another group takes root")
    os.chown(root / "dev/kfd", -1, 987_654)
    reason = missing_for_compute(root, lambda _path, _mode: False)
    assert reason is not None
    assert reason.endswith("its group number 987654")


def test_a_render_node_that_a_container_lacks_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path, [MI210], render=False)
    (gpu,) = amd_gpus(root)
    assert "there is no /dev/dri/renderD130" in str(missing_for_gpu(gpu, root))
