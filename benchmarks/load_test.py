"""Load on a server with OpenAI's completions: tokens/s, time to first token, time between tokens.

    rocmforge serve --model M.gguf --port 8080 &
    python benchmarks/load_test.py --url http://127.0.0.1:8080 --json results.json

Each client streams one completion after another. All prompts begin with the same words and end
with their own number. The client speaks HTTP over plain sockets, because a client library costs
more CPU time a token than a server may; on a small machine the two share the cores, and the
server's own share is told where its process id is given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STORY = "the old king went down to the sea and told his daughter that it was cold and grey"


@dataclass
class Stream:
    """When things came, in seconds since the request was sent."""

    tokens_at: list[float] = field(default_factory=list)
    num_tokens: int = 0

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.tokens_at)]


async def complete(address: tuple[str, int], body: dict[str, Any], key: str) -> Stream:
    """Streams one completion to its end; raises RuntimeError for any other answer."""
    reader, writer = await asyncio.open_connection(*address)
    data = json.dumps(body).encode()
    head = [
        "POST /v1/completions HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + data)
    stream, started_at = Stream(), time.perf_counter()
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(status.decode() + (await reader.read(2000)).decode())
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter() - started_at
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(line.decode())
        if event.get("usage"):
            stream.num_tokens = event["usage"]["completion_tokens"]
        if event["choices"] and event["choices"][0]["text"]:
            stream.tokens_at.append(now)
    writer.close()
    return stream


def quantile(values: list[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def cpu_seconds(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(options: argparse.Namespace, concurrency: int) -> dict[str, Any]:
    parts = urlsplit(options.url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    numbers = itertools.count()
    prefix = " ".join(itertools.islice(itertools.cycle(STORY.split()), options.prefix_words))
    num_requests = max(options.requests, concurrency)
    streams: list[Stream] = []

    async def client() -> None:
        while (number := next(numbers)) < num_requests:
            body = {
                "prompt": f"{prefix} {concurrency} {number}",
                "max_tokens": options.max_tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            streams.append(await complete(address, body, options.api_key))

    used_before, started_at = cpu_seconds(options.server_pid), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    wall_s = time.perf_counter() - started_at
    num_tokens = sum(stream.num_tokens for stream in streams)
    firsts = [stream.tokens_at[0] for stream in streams if stream.tokens_at]
    gaps = [gap for stream in streams for gap in stream.gaps]
    row = {
        "concurrency": concurrency,
        "requests": len(streams),
        "tokens": num_tokens,
        "wall_s": wall_s,
        "tokens_per_s": num_tokens / wall_s,
        "ttft_p50_s": quantile(firsts, 0.5),
        "ttft_p99_s": quantile(firsts, 0.99),
        "itl_p50_s": quantile(gaps, 0.5),
        "itl_p99_s": quantile(gaps, 0.99),
    }
    if options.server_pid is not None:
        used = cpu_seconds(options.server_pid) - used_before
        row["server_cpu_s_per_token"] = used / max(1, num_tokens)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--api-key", default=os.environ.get("ROCMFORGE_API_KEY", ""))
    parser.add_argument("--concurrency", default="1,4,16,64")
    parser.add_argument("--requests", type=int, default=32, help="at each concurrency, or more")
    parser.add_argument("--prefix-words", type=int, default=400, help="shared by all prompts")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--server-pid", type=int, help="of the HTTP process, for its CPU time")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    rows = []
    for level in map(int, options.concurrency.split(",")):
        rows.append(asyncio.run(measure(options, level)))
        print(json.dumps({k: round(v, 6) if v else v for k, v in rows[-1].items()}))
    if options.json:
        settings = {k: getattr(options, k) for k in ("requests", "prefix_words", "max_tokens")}
        report = {"machine": platform.processor(), "cpus": os.cpu_count(), **settings}
        options.json.write_text(json.dumps({**report, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
