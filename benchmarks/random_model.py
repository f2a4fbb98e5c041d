"""Writes models of real shapes with random weights, the same for the same seed.

    python benchmarks/random_model.py llama-3.2-1b Q4_0 Q4_K_M [--out FOLDER] [--seed 0]

Each tensor has the format that llama-quantize gives it. The folder is by default
rocmforge/benchmark-models in the user's cache; a file that is there already is written anew.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from random_models.shapes import SHAPES
from random_models.tensor_types import MIXTURES
from random_models.writer import write_random_model


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "rocmforge" / "benchmark-models"


def model_path(folder: Path, shape: str, mixture: str, seed: int) -> Path:
    return folder / f"{shape}-{mixture}-random{seed}.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("formats", nargs="+", choices=MIXTURES, metavar="FORMAT")
    parser.add_argument("--out", type=Path, default=default_folder())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for mixture in arguments.formats:
        path = model_path(arguments.out, arguments.shape, mixture, arguments.seed)
        start = time.perf_counter()
        write_random_model(path, SHAPES[arguments.shape], mixture, arguments.seed)
        seconds = time.perf_counter() - start
        print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB in {seconds:.1f} s")


if __name__ == "__main__":
    main()
