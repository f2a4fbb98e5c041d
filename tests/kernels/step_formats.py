"""The formats of the fused stages with their ids in GGUF files."""

from __future__ import annotations

import re

from host_kernels import KERNELS

STEP_FORMATS: dict[str, int] = {
    name: int(number)
    for name, number in re.findall(
        r"^RF_STEP_FORMAT\((\w+), (\d+),",
        (KERNELS / "include/step_formats.def").read_text(),
        re.MULTILINE,
    )
}
