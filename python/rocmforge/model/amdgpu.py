"""AMD GPUs as the Linux kernel describes them, before any runtime is loaded.

The topology of the compute driver (KFD) names the instruction set of every GPU, which the HIP
runtime tells in no attribute; /dev/kfd and the render nodes tell whether this user may compute.
Everything is read below `root`, "/" on a live machine.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TOPOLOGY = "sys/class/kfd/kfd/topology/nodes"
_DRM = "sys/class/drm"

Access = Callable[[Path, int], bool]


@dataclass(frozen=True, slots=True)
class AmdGpu:
    """A node of the KFD topology."""

    target: str  # gfx1100
    pci: tuple[int, int, int]  # domain, bus, device
    render_node: Path | None  # /dev/dri/renderD128
    drives_display: bool
    vram_bytes: int | None
    gtt_bytes: int | None  # host memory that it may map: most of an APU's


def amd_gpus(root: Path = Path("/")) -> list[AmdGpu]:
    """The GPUs that the compute driver lists, in its order; [] without the driver."""
    nodes = root / _TOPOLOGY
    numbers = sorted(int(p.name) for p in nodes.glob("*") if p.name.isdigit())
    found = []
    for number in numbers:
        properties = _properties(nodes / str(number) / "properties")
        if not properties.get("simd_count"):  # a CPU
            continue
        location = properties.get("location_id", 0)
        pci = (properties.get("domain", 0), location >> 8 & 0xFF, location >> 3 & 0x1F)
        minor = properties.get("drm_render_minor", 0)
        card = _card(root, pci)
        found.append(
            AmdGpu(
                target=target_name(properties.get("gfx_target_version", 0)),
                pci=pci,
                render_node=root / f"dev/dri/renderD{minor}" if minor else None,
                drives_display=card is not None and _has_display(root, card),
                vram_bytes=_memory(card, "vram"),
                gtt_bytes=_memory(card, "gtt"),
            )
        )
    return found


def target_name(version: int) -> str:
    """LLVM's name of a gfx_target_version: 110000 is gfx1100, 90010 is gfx90a."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def missing_for_compute(root: Path = Path("/"), access: Access = os.access) -> str | None:
    """Why no AMD GPU can compute for this user, or None if the kernel's part is in order."""
    if not (root / "sys/module/amdgpu").exists():
        return "the kernel module amdgpu is not loaded"
    kfd = root / "dev/kfd"
    if not kfd.exists():
        return "there is no /dev/kfd: the kernel has no compute driver, or a container lacks it"
    if not access(kfd, os.R_OK | os.W_OK):
        return f"no permission for /dev/kfd: {_group_advice(kfd)}"
    return None


def missing_for_gpu(gpu: AmdGpu, root: Path = Path("/"), access: Access = os.access) -> str | None:
    """Why this user cannot compute on one GPU, or None."""
    node = gpu.render_node
    if node is None:
        return None
    shown = f"/{node.relative_to(root)}"
    if not node.exists():
        return f"there is no {shown}: a container lacks it"
    if not access(node, os.R_OK | os.W_OK):
        return f"no permission for {shown}: {_group_advice(node)}"
    return None


def _group_advice(path: Path) -> str:
    number = path.stat().st_gid
    try:
        name = f"{grp.getgrgid(number).gr_name} (number {number})"
    except KeyError:  # containers know fewer groups than their host
        name = f"number {number}"
    return f"become a member of its group {name}"


def _properties(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _card(root: Path, pci: tuple[int, int, int]) -> Path | None:
    slot = "{:04x}:{:02x}:{:02x}.".format(*pci)
    for card in sorted((root / _DRM).glob("card*")):
        lines = _text(card / "device/uevent").splitlines()
        if "-" not in card.name and any(line.startswith(f"PCI_SLOT_NAME={slot}") for line in lines):
            return card
    return None


def _has_display(root: Path, card: Path) -> bool:
    connectors = (root / _DRM).glob(f"{card.name}-*/status")
    return any(_text(status).strip() == "connected" for status in connectors)


def _memory(card: Path | None, kind: str) -> int | None:
    text = "" if card is None else _text(card / f"device/mem_info_{kind}_total").strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
