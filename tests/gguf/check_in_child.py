"""Checks files in a process of its own, so that the peak memory of each can be told.

Usage: check_in_child.py VALID FILE...  Prints a line a file: name, outcome, seconds of processor
time, bytes by which the peak rose over that of VALID.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.model import check_model


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measured(path: str) -> tuple[str, float, int]:
    reset_peak()
    started = time.process_time()
    try:
        check_model(path)
        result = "accept"
    except (ModelFileError, UnsupportedError):
        result = "reject"
    return result, time.process_time() - started, peak()


def main() -> None:
    valid, *paths = sys.argv[1:]
    measured(valid)  # Imports and caches are paid for here.
    _, _, usual = measured(valid)
    for path in paths:
        result, seconds, most = measured(path)
        sys.stdout.write(f"{Path(path).name}\t{result}\t{seconds:.3f}\t{most - usual}\n")


main()
