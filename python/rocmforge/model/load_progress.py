"""How far loading is, for another thread to look at."""

from __future__ import annotations

import time

from rocmforge import _native


class LoadProgress:
    """Given to load_model(), which fills it in."""

    def __init__(self) -> None:
        self.total_bytes = 0  # of weights; 0 until loading them begins
        self.native = _native.LoadProgress()
        self._start = time.perf_counter()
        self._end: float | None = None

    def begin(self, total_bytes: int) -> None:
        """Counts from 0: weights are loaded, or loaded once more in another way."""
        self.total_bytes = total_bytes
        self.native = _native.LoadProgress()
        self._start, self._end = time.perf_counter(), None

    def end(self) -> None:
        self._end = time.perf_counter()

    @property
    def loaded_bytes(self) -> int:
        """Of weights that are where they will be read."""
        return min(self.native.loaded_bytes, self.total_bytes)

    @property
    def bytes_per_s(self) -> float:
        seconds = (self._end or time.perf_counter()) - self._start
        return self.loaded_bytes / max(seconds, 1e-9)

    def text(self) -> str:
        """ "1.2 of 4.9 GB, 2.1 GB/s", or "" before there is anything to say."""
        if not self.total_bytes:
            return ""
        size, unit = (1e9, "GB") if self.total_bytes >= 1e9 else (1e6, "MB")
        done, total = self.loaded_bytes / size, self.total_bytes / size
        return f"{done:.1f} of {total:.1f} {unit}, {self.bytes_per_s / size:.1f} {unit}/s"
