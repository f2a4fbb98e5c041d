"""Feeds damaged GGUF files to the reader until the time is up or one is not handled.

    python fuzz/fuzz_gguf.py [--seconds 60] [--seed 0]

An input that ends in anything but a typed error, or takes over two seconds, is kept in the
working directory as crash-SEED-N.gguf and ends the run with exit code 1. The mutator is that of
the tests (tests/gguf_bytes/mutate.py); a seed gives the same inputs again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from gguf_bytes.exercise import exercise
from gguf_bytes.mutate import mutant

SLOW_S = 2.0


def survives(path: Path) -> bool:
    started = time.process_time()
    try:
        exercise(path)
    except Exception:  # noqa: BLE001  # whatever is not a typed error is a finding
        traceback.print_exc()
        return False
    return time.process_time() - started < SLOW_S


def run(seconds: float, seed: int) -> int:
    """Number of inputs tried; stops at the first finding."""
    rng = random.Random(seed)  # noqa: S311
    deadline = time.monotonic() + seconds
    tried = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.gguf"
        while time.monotonic() < deadline:
            data = mutant(rng)
            path.write_bytes(data)
            tried += 1
            if not survives(path):
                kept = Path(f"crash-{seed}-{tried}.gguf")
                kept.write_bytes(data)
                sys.exit(f"input {tried} of seed {seed} is not handled; kept as {kept}")
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tried = run(options.seconds, options.seed)
    sys.stdout.write(f"{tried} inputs, seed {options.seed}: 0 findings\n")


if __name__ == "__main__":
    main()
