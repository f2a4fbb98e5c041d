"""What a long run keeps of each stretch of its time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from side_by_side.statistics import quantile


@dataclass
class Window:
    """What was measured in one stretch of time: of requests that began in it and mean well, from
    their sending to the end of the answer."""

    at_s: float
    concurrency: int
    latencies: list[float] = field(default_factory=list)
    load_average: float = 0.0  # of the whole machine, at its end
    rss: dict[str, float] = field(default_factory=dict)  # by process, at its end

    def told(self) -> dict[str, Any]:
        return {
            "at_s": round(self.at_s, 1),
            "concurrency": self.concurrency,
            "requests": len(self.latencies),
            "p50_s": quantile(self.latencies, 0.5),
            "p99_s": quantile(self.latencies, 0.99),
            "load_average": self.load_average,
            "rss_bytes": self.rss,
        }


def slope(times_s: list[float], values: list[float]) -> tuple[float, float] | None:
    """Least squares: the slope per hour, and half of its 95 % interval; None for too few points."""
    if len(values) < 4:
        return None
    x, y = np.array(times_s) / 3600, np.array(values)
    fit = np.polyfit(x, y, 1)
    spread = float(((y - np.polyval(fit, x)) ** 2).sum()) / (len(x) - 2)
    error = math.sqrt(spread / float(((x - x.mean()) ** 2).sum()))
    return float(fit[0]), 1.96 * error
