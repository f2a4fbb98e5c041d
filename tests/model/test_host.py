"""Threads and memory as recorded system files tell them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rocmforge.model.host import available_memory, default_threads


@pytest.fixture
def cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four processors, two hyper-threads on each of two cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        topology = tmp_path / f"cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    return tmp_path


def test_one_thread_per_core(cpus: Path, tmp_path: Path) -> None:
    assert default_threads(cpus, tmp_path / "no-cgroup") == 2


def test_affinity_limits_the_cores(
    cpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})
    assert default_threads(cpus, tmp_path / "no-cgroup") == 1


@pytest.mark.usefixtures("cpus")
def test_processors_without_topology_count_as_cores(tmp_path: Path) -> None:
    assert default_threads(tmp_path / "nowhere", tmp_path / "no-cgroup") == 4


@pytest.mark.parametrize(
    ("quota", "threads"),
    [("100000 100000", 1), ("50000 100000", 1), ("900000 100000", 2), ("max 100000", 2)],
)
def test_cpu_quota_limits_the_threads(cpus: Path, tmp_path: Path, quota: str, threads: int) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    (cgroup / "cpu.max").write_text(quota + "\n")
    assert default_threads(cpus, cgroup) == threads


def test_memory_is_the_smaller_of_free_and_what_the_control_group_leaves(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  8000 kB\nMemAvailable:    6000 kB\n")
    assert available_memory(meminfo, tmp_path) == 6000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert available_memory(meminfo, tmp_path) == 2000000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(meminfo, tmp_path) == 6000 * 1024
