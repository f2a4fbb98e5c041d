"""ROCmForge and llama.cpp side by side on the same file, taking turns.

    python benchmarks/compare_peer.py llama-3.2-1b:Q4_0 qwen2.5-0.5b:Q4_K_M --peer PEER_PYTHON

A model is SHAPE:FORMAT, written with random weights if it is not there yet, or a .gguf file.
Before anything is timed both must compute the same. benchmarks/README.md says what is measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from random_model import default_folder, model_path
from random_models.shapes import SHAPES
from random_models.tensor_types import MIXTURES
from random_models.writer import write_random_model
from rocmforge.model.host import default_threads
from side_by_side.agreement import DisagreementError
from side_by_side.client import Engine, Worker, WorkerError, llama_cpp, rocmforge
from side_by_side.first_token import CONTEXT_TOKENS, agreement, first_tokens
from side_by_side.machine import command, machine
from side_by_side.rates import FLASH_ATTENTION, TESTS, Rates, add_undisturbed
from side_by_side.table import table

RESULTS = Path(__file__).resolve().parent / "results"
SEED = 0
LOADING = "load"


def main() -> None:
    arguments = parse_arguments()
    engines = (
        rocmforge(sys.executable, arguments.isa),
        llama_cpp(arguments.peer, arguments.peer_repack),
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    out = arguments.out / f"compare-peer-{now:%Y%m%d-%H%M%S}.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        report: dict[str, Any] = {
            "date": now.isoformat(timespec="seconds"),
            "command": command(),
            "machine": machine(),
            "versions": {engine.name: describe(engine) for engine in engines},
            "threads": arguments.threads,
            "repetitions": arguments.repetitions,
            "kv_dtype": "f16",
            "peer_repack": arguments.peer_repack,
            "models": [],
        }
        for name in arguments.models:
            report["models"].append(compare(name, engines, arguments))
            out.write_text(json.dumps(report, indent=1) + "\n")
            print(table(report["models"][-1]), flush=True)
    except (WorkerError, DisagreementError) as error:
        sys.exit(str(error))
    print(f"written to {out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="SHAPE:FORMAT or a .gguf file")
    parser.add_argument("--peer", required=True, metavar="PYTHON", help="has llama-cpp-python")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument("--tests", default=",".join([LOADING, *TESTS]), help="%(default)s")
    parser.add_argument("--isa", help="ROCMFORGE_CPU_ISA; the CPU's best by default")
    parser.add_argument(
        "--peer-repack",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="llama.cpp's AMX and repacked weights",
    )
    parser.add_argument("--peer-flash-attention", choices=FLASH_ATTENTION, default="best")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="of the models")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if shutil.which(arguments.peer) is None:
        parser.error(f"--peer: there is no program {arguments.peer!r}")
    arguments.tests = arguments.tests.split(",")
    if unknown := set(arguments.tests) - {LOADING, *TESTS}:
        parser.error(f"no such tests: {', '.join(sorted(unknown))}")
    return arguments


def compare(
    name: str, engines: tuple[Engine, Engine], arguments: argparse.Namespace
) -> dict[str, Any]:
    """All figures of one model."""

    def announce(message: str) -> None:
        print(f"{name}: {message}", file=sys.stderr, flush=True)

    path = model_file(name, arguments.folder, announce)
    announce("comparing the logits")
    threads, repetitions = arguments.threads, arguments.repetitions
    result: dict[str, Any] = {"name": Path(name).stem if name.endswith(".gguf") else name}
    result["file_bytes"] = path.stat().st_size
    result["agreement"] = agreement(engines, path, threads)
    tests = [test for test in TESTS.values() if test.name in arguments.tests]
    if LOADING in arguments.tests:
        result["first_token"] = first_tokens(engines, path, threads, repetitions, announce)
    with closing(Worker(engines[0])) as ours, closing(Worker(engines[1])) as peer:
        flash = arguments.peer_flash_attention
        rates = Rates((ours, peer), path, threads, tests, flash, announce)
        result["tests"] = [rates.run(test, repetitions) for test in tests]
    add_undisturbed(result["tests"])
    for key in ("weight_bytes", "kv_bytes_per_token"):
        result[key] = rates.model[key]
    if first := result.get("first_token"):
        allowed = result["file_bytes"] + CONTEXT_TOKENS * result["kv_bytes_per_token"] + (200 << 20)
        peak = first["rocmforge"]["peak_rss_bytes"]["median"]
        first["peak_rss_over_limit"] = peak / (1.1 * allowed)
    return result


def model_file(name: str, folder: Path, announce: Any) -> Path:
    if name.endswith(".gguf"):
        return Path(name)
    shape, _, mixture = name.partition(":")
    if shape not in SHAPES or mixture not in MIXTURES:
        shapes, mixtures = ", ".join(SHAPES), ", ".join(MIXTURES)
        sys.exit(f"{name!r} is no SHAPE:FORMAT; shapes: {shapes}; formats: {mixtures}")
    path = model_path(folder, shape, mixture, SEED)
    if not path.exists():
        announce("writing the model")
        folder.mkdir(parents=True, exist_ok=True)
        write_random_model(path, SHAPES[shape], mixture, SEED)
    return path


def describe(engine: Engine) -> dict[str, Any]:
    with closing(Worker(engine)) as worker:
        return worker.ask("describe")


if __name__ == "__main__":
    main()
