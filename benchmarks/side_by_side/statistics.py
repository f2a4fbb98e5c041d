"""What is kept of repeated measurements."""

from __future__ import annotations

import statistics
from typing import Any


def summary(samples: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(samples), "samples": samples}
