"""Another busy process on one of the cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hog(core: int) -> Iterator[None]:
    """Keeps `core` busy while the context lasts."""
    process = subprocess.Popen([sys.executable, __file__, str(core)], stdout=subprocess.PIPE)
    try:
        if process.stdout is not None:
            process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def first_core() -> int:
    return min(os.sched_getaffinity(0))


def _spin(core: int) -> None:
    """Ends with its parent."""
    parent = os.getppid()
    os.sched_setaffinity(0, {core})
    print("spinning", flush=True)
    while os.getppid() == parent:
        sum(range(100_000))


if __name__ == "__main__":
    _spin(int(sys.argv[1]))
