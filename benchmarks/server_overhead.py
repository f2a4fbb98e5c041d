"""What serving costs: tokens/s of the same requests in process and over HTTP, in turn.

    python benchmarks/server_overhead.py --model M.gguf --threads 2 --streams 16

In process they are one call of LLM.generate; over HTTP each is a client's streamed completion of a
text, so the difference is the server's tokenizing, detokenizing, framing and sockets, and the
client's reading, which shares the machine. Prompts are never the same twice.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rocmforge import LLM, SamplingParams
from serving.load import cpu_seconds, summary
from serving.servers import Server, rocmforge_server
from serving.streams import note_completion, stream_of
from side_by_side.build import rocmforge_build
from side_by_side.client import SETTLING_S
from side_by_side.machine import busy_cores, command, machine
from side_by_side.statistics import summary as samples

RESULTS = Path(__file__).resolve().parent / "results"
CTX = 1024


def main() -> None:
    options = parse_arguments()
    now = datetime.datetime.now(datetime.timezone.utc)
    report: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"),
        "command": command(),
        "machine": machine(),
        "versions": {"rocmforge": rocmforge_build()},
        "model": options.model.name,
        **{name: getattr(options, name) for name in ("threads", "streams", "max_tokens")},
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        rocmforge_server(options.model, options.threads, CTX, Path(folder) / "log") as server,
        LLM(options.model, threads=options.threads, max_model_len=CTX) as llm,
    ):
        report |= compare(llm, server, options)
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out / f"server-overhead-{now:%Y%m%d-%H%M%S}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"HTTP takes {report['overhead']:.1%} of the tokens/s; written to {out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("-r", "--repetitions", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def compare(llm: LLM, server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """The overhead is the median of that of each pair of turns, whose order alternates."""
    in_process, over_http, busy = [], [], []
    streamed(server, prompts(options.streams, -1), 8)
    generated(llm, prompts(options.streams, -1), 8)
    for repetition in range(options.repetitions):
        texts = prompts(options.streams, repetition)
        for turn in (0, 1) if repetition % 2 else (1, 0):
            time.sleep(SETTLING_S)
            busy.append(busy_cores())
            if turn == 0:
                in_process.append(generated(llm, texts, options.max_tokens))
            else:
                over_http.append(streamed(server, texts, options.max_tokens))
        rates = in_process[-1], over_http[-1]["tokens_per_s"]
        print(f"in process {rates[0]:.1f}, over HTTP {rates[1]:.1f} tokens/s", flush=True)
    served = [row["tokens_per_s"] for row in over_http]
    lost = [1 - http / own for own, http in zip(in_process, served, strict=True)]
    return {
        "overhead": statistics.median(lost),
        "overheads": lost,
        "in_process_tokens_per_s": samples(in_process),
        "http_tokens_per_s": samples(served),
        "other_busy_cores": samples(busy),
        "http": over_http,
    }


def prompts(count: int, repetition: int) -> list[str]:
    return [f"{repetition} {i}: the old king went down to the sea and told" for i in range(count)]


def generated(llm: LLM, texts: list[str], max_tokens: int) -> float:
    """Tokens per second."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    started_at = time.perf_counter()
    outputs = llm.generate(texts, params)
    wall_s = time.perf_counter() - started_at
    return sum(len(output.token_ids) for output in outputs) / wall_s


def streamed(server: Server, texts: list[str], max_tokens: int) -> dict[str, Any]:
    settings = {
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }

    async def all_of() -> list[Any]:
        bodies = [{"prompt": text, **settings} for text in texts]
        return await asyncio.gather(*(note_completion(server.address, body) for body in bodies))

    used, started_at = cpu_seconds(server.pids[:1]), time.perf_counter()
    notes = asyncio.run(all_of())
    wall_s = time.perf_counter() - started_at
    row = summary([stream_of(one) for one in notes], wall_s)
    used = cpu_seconds(server.pids[:1]) - used
    return {**row, "http_process_cpu_s_per_token": used / row["tokens"]}


if __name__ == "__main__":
    main()
