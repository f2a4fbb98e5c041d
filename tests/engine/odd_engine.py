"""An engine process over the fake decoder that hangs in a step, or takes very long for it.

Run as `odd_engine.py STEP_S PIECE_S FD`: a step takes STEP_S and counts a piece of work every
PIECE_S; the first request runs as it should.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH is set

from fake_session import fake_model

from rocmforge.engine import process

NUM_GOOD_STEPS = 2


def main() -> None:
    step_s, piece_s = float(sys.argv[1]), float(sys.argv[2])
    del sys.argv[1:3]
    with fake_model() as model:
        decoder = model.decoder
        num_steps = 0

        def linger() -> None:
            nonlocal num_steps
            num_steps += 1
            if num_steps <= NUM_GOOD_STEPS:
                return
            ends_at = time.monotonic() + step_s
            while time.monotonic() < ends_at:
                time.sleep(piece_s)
                decoder.progress += 1

        decoder.before_enqueue = linger
        process.main()


if __name__ == "__main__":
    main()
