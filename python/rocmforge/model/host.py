"""What this machine offers a model: threads that do not share a core, memory that is free.

Containers are respected: the affinity mask, the CPU quota and the memory limit of the control
group count, not what the hardware has.
"""

from __future__ import annotations

import os
from pathlib import Path

_CPU_SYSFS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def default_threads(cpus: Path = _CPU_SYSFS, cgroup: Path = _CGROUP) -> int:
    """One thread per physical core that this process may run on, at most the CPU quota.

    Two hyper-threads of a core share its vector units and its path to memory: a second one adds
    nothing to a matrix product.
    """
    allowed = os.sched_getaffinity(0)
    cores = {_read(cpus / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    quota, _, period = (_read(cgroup / "cpu.max") or "max").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return max(1, min(len(cores), int(quota) // int(period)))
    return len(cores)


def available_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that can be allocated without swapping."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = _read(cgroup / "memory.max"), _read(cgroup / "memory.current")
    if limit and used and limit.isdigit() and used.isdigit():
        return max(0, min(available, int(limit) - int(used)))
    return available


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Memory of this process that is backed by pages."""
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
