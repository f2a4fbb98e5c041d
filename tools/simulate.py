"""Long runs of the scheduler's simulation (tests/engine/simulator.py), on all cores.

    python tools/simulate.py --seeds 20000 --turns 1000 --json benchmarks/results/simulation.json

Every seed is a run of its own; one that breaks an invariant is told of with its seed, which fails
again in the same way. Exits with 1 if there was one. Then every order of events in a small world
is gone through (tests/engine/small_scope.py).
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import multiprocessing
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "engine"), str(ROOT / "benchmarks")]

from simulator import Simulation
from small_scope import explore

from side_by_side.build import rocmforge_build
from side_by_side.machine import command, machine


@dataclass(frozen=True)
class Run:
    seed: int
    num_steps: int
    num_events: int
    num_faults: int
    failure: str = ""


def run(seed: int, num_turns: int) -> Run:
    simulation = Simulation(seed)
    failure = ""
    try:
        simulation.run(num_turns)
    except Exception:  # noqa: BLE001 - told of with its seed
        failure = traceback.format_exc(limit=-3)
    steps = simulation.engine.stats().num_steps
    return Run(seed, steps, len(simulation.log), simulation.num_faults, failure)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=12, help="of all orders in a small world")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    # Requests fail by design, thousands of times.
    logging.disable(logging.CRITICAL)
    now, started_at = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with multiprocessing.Pool() as pool:
        runs = pool.map(partial(run, num_turns=options.turns), seeds, chunksize=20)
        wall_s = time.monotonic() - started_at
        explored = pool.map(partial(explore, depth=options.depth), (0, 1), chunksize=1)
    failures = {one.seed: one.failure for one in runs if one.failure}
    num_steps = sum(one.num_steps for one in runs)
    report = {
        "date": now.isoformat(timespec="seconds"),
        "command": command().replace("benchmarks/", "tools/", 1),
        "machine": machine(),
        "versions": rocmforge_build(),
        "seeds": len(seeds),
        "turns": options.turns,
        "steps": num_steps,
        "events": sum(one.num_events for one in runs),
        "faults": sum(one.num_faults for one in runs),
        "violations": len(failures),
        "wall_s": wall_s,
        "turns_per_s": len(seeds) * options.turns / wall_s,
        "steps_per_s": num_steps / wall_s,
        "small_scope": {
            "depth": options.depth,
            "states": sum(one.num_states for one in explored),
            "actions": sum(one.num_actions for one in explored),
        },
    }
    print(json.dumps(report, indent=1))
    for seed, failure in failures.items():
        print(f"seed {seed}:\n{failure}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
