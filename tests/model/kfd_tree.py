"""Recorded /sys and /dev trees of machines with AMD GPUs, written to a folder.

The properties are the lines that Linux 6.8 prints for these nodes; lines nobody reads are left out
but for a few, so that a reader has something to skip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPU_NODE = """\
cpu_cores_count 16
simd_count 0
mem_banks_count 1
gfx_target_version 0
vendor_id 0
device_id 0
location_id 0
domain 0
drm_render_minor 0
"""


@dataclass(frozen=True)
class Gpu:
    version: int  # gfx_target_version
    bus: int
    render_minor: int
    card: int
    display: str | None = None  # a connector
    vram_gib: int = 24
    gtt_gib: int = 31
    domain: int = 0


RX_7900_XTX = Gpu(110000, bus=0x03, render_minor=128, card=0, display="DP-1")
MI300X = Gpu(90402, bus=0x0C, render_minor=129, card=1, vram_gib=192, domain=2)
MI210 = Gpu(90010, bus=0x41, render_minor=130, card=2, vram_gib=64)
PHOENIX = Gpu(110003, bus=0xC5, render_minor=128, card=0, display="eDP-1", vram_gib=1)


def write_tree(
    root: Path, gpus: list[Gpu], *, module: bool = True, kfd: bool = True, render: bool = True
) -> Path:
    """`kfd` and `render`: whether the device nodes are there, as in a container they may not be."""
    if module:
        _write(root / "sys/module/amdgpu/refcnt", "3\n")
        _write(root / "sys/class/kfd/kfd/topology/nodes/0/properties", CPU_NODE)
    if kfd:
        _write(root / "dev/kfd", "")
    for number, gpu in enumerate(gpus, 1):
        _write(root / f"sys/class/kfd/kfd/topology/nodes/{number}/properties", _properties(gpu))
        if render:
            _write(root / f"dev/dri/renderD{gpu.render_minor}", "")
        device = root / f"sys/class/drm/card{gpu.card}/device"
        slot = f"{gpu.domain:04x}:{gpu.bus:02x}:00.0"
        _write(device / "uevent", f"DRIVER=amdgpu\nPCI_CLASS=38000\nPCI_SLOT_NAME={slot}\n")
        _write(device / "mem_info_vram_total", f"{gpu.vram_gib << 30}\n")
        _write(device / "mem_info_gtt_total", f"{gpu.gtt_gib << 30}\n")
        connectors = root / "sys/class/drm"
        _write(connectors / f"card{gpu.card}-HDMI-A-1/status", "disconnected\n")
        if gpu.display:
            _write(connectors / f"card{gpu.card}-{gpu.display}/status", "connected\n")
    return root


def _properties(gpu: Gpu) -> str:
    return f"""\
cpu_cores_count 0
simd_count 192
max_waves_per_simd 16
wave_front_size 32
gfx_target_version {gpu.version}
vendor_id 4098
device_id 29772
location_id {gpu.bus << 8}
domain {gpu.domain}
drm_render_minor {gpu.render_minor}
unique_id 12345678901234567890
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
