"""What a run says of the machine it ran on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in cpuinfo}
    flags = fields.get("flags", "").split()
    memory = Path("/proc/meminfo").read_text().split()
    return {
        "cpu": fields.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "features": [name for name in FEATURES if name in flags],
        "memory_bytes": int(memory[memory.index("MemTotal:") + 1]) * 1024,
        "platform": platform.machine(),
        "kernel": platform.release(),
        "huge_pages": _huge_pages(),
    }


def busy_cores(seconds: float = 0.3) -> float:
    """Cores that other processes, or other guests of the host, keep busy while this one waits."""
    idle, start = _idle_s(), time.monotonic()
    time.sleep(seconds)
    spent = time.monotonic() - start
    return max(0.0, (os.cpu_count() or 1) - (_idle_s() - idle) / spent)


def _idle_s() -> float:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def command() -> str:
    """The command line, of paths the last part alone."""
    words = [Path(word).name if "/" in word else word for word in sys.argv]
    return shlex.join(["python", f"benchmarks/{words[0]}", *words[1:]])


def _huge_pages() -> str:
    """always, madvise or never."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.read_text().partition("[")[2].partition("]")[0] if setting.exists() else ""
