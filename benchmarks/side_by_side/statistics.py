"""What is kept of repeated measurements."""

from __future__ import annotations

import statistics
from typing import Any


def summary(samples: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(samples), "samples": samples}


def quantile(values: list[float], q: float) -> float | None:
    """The value that the share `q` of them is below; None if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
