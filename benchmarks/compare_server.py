"""`rocmforge serve` and llama.cpp's llama-server under the same load, taking turns.

    python benchmarks/compare_server.py --model M.gguf --peer build/bin/llama-server --threads 2

Both serve the file at once and one of them is asked at a time. A round gives both the same prompts,
which begin with 512 tokens that neither has seen before. benchmarks/README.md tells how to build
the peer.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from serving.load import Load, measure
from serving.servers import Server, llama_server, rocmforge_server
from side_by_side.build import rocmforge_build
from side_by_side.client import SETTLING_S
from side_by_side.machine import busy_cores, command, machine
from side_by_side.statistics import summary

RESULTS = Path(__file__).resolve().parent / "results"
SLOTS = 16
FIGURES = ("tokens_per_s", "ttft_p50_s", "ttft_p99_s", "itl_p50_s", "itl_p99_s")


def main() -> None:
    options = parse_arguments()
    now = datetime.datetime.now(datetime.timezone.utc)
    report: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"),
        "command": command(),
        "machine": machine(),
        "versions": {"rocmforge": rocmforge_build(), "llama_server": _version(options.peer)},
        "model": options.model.name,
        "threads": options.threads,
        "peer_slots": SLOTS,
        "prefix_tokens": options.prefix_tokens,
        "max_tokens": options.max_tokens,
        "repetitions": options.repetitions,
        "results": [],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out / f"compare-server-{now:%Y%m%d-%H%M%S}.json"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        logs = Path(folder)
        ctx = options.prefix_tokens + options.max_tokens + 64
        ours = rocmforge_server(options.model, options.threads, ctx, logs / "ours")
        peer = llama_server(options.peer, options.model, options.threads, ctx, SLOTS, logs / "peer")
        servers = [stack.enter_context(ours), stack.enter_context(peer)]
        for level in map(int, options.concurrency.split(",")):
            report["results"].append(compare(servers, level, options))
            out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True, help="the program llama-server")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", default="1,4,16,64")
    parser.add_argument("--requests-per-client", type=int, default=2)
    parser.add_argument("--prefix-tokens", type=int, default=512, help="shared by all prompts")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("-r", "--repetitions", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def compare(servers: list[Server], level: int, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one concurrency, and the ratios of their medians, ours to the peer's."""
    rows: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    busy: list[float] = []
    num_requests = level * options.requests_per_client
    for repetition in range(options.repetitions):
        seed = 1000 * level + repetition
        load = Load(level, num_requests, options.prefix_tokens, options.max_tokens, seed)
        for server in servers:
            time.sleep(SETTLING_S)
            busy.append(busy_cores())
            rows[server.name].append(asyncio.run(measure(server.address, load, "", server.pids)))
            row = rows[server.name][-1]
            shown = {name: round(row[name], 4) for name in FIGURES}
            print(f"{server.name} at {level}: {json.dumps(shown)}", flush=True)
    ours, peer = (
        {name: statistics.median(row[name] for row in rows[server.name]) for name in FIGURES}
        for server in servers
    )
    return {
        "concurrency": level,
        "requests": num_requests,
        "ratio": {name: ours[name] / peer[name] for name in FIGURES},
        "other_busy_cores": summary(busy),
        **rows,
    }


def _version(program: Path) -> dict[str, Any]:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return {"version": (told.stdout + told.stderr).strip().splitlines()}


if __name__ == "__main__":
    main()
