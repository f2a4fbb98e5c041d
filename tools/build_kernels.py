"""Builds code objects: build_kernels.py OUT_DIR TARGET..., such as gfx1100 gfx942 sm_90.

--list prints all AMD targets that the compiler knows, with ; between them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from kernel_compilers import all_amd_targets, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.list:
        print(";".join(all_amd_targets()), end="")
        return
    for target in options.targets:
        start = time.monotonic()
        try:
            path = build(target, options.out, options.jobs)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{' '.join(error.cmd)}\n{error.stdout}{error.stderr}")
        except FileNotFoundError as error:
            sys.exit(str(error))
        print(f"{path}: {path.stat().st_size} bytes, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
