"""Many kinds of requests on one server for a long time: is it as it was at the end?

    python benchmarks/soak.py --minutes 30 --json soak.json

Starts a server of the story model; one that runs already, with --deterministic, can be named by
--url. Clients ask for completions, chats, structured answers and embeddings, streamed or whole, leave
streams in their middle, and send hostile requests. Greedy answers are compared with what each
prompt gave when it was asked alone, which holds for a server that is deterministic. Memory, from
/metrics, and latencies are told in windows; the memory's slope over time leaves out the first
fifth, in which buffers grow to what they are needed for. The windows take turns at the
concurrencies. Exits with 1 if an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import datetime
import itertools
import json
import math
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hostile import Hostile, ask, hostile_requests
from hostile.bodies import CHAT, COMPLETIONS, EMBEDDINGS
from hostile.exchange import post
from rocmforge.model.loader import embedded_model
from serving.servers import rocmforge_server
from serving.windows import Window, slope
from side_by_side.build import rocmforge_build
from side_by_side.machine import command, machine
from side_by_side.statistics import quantile

STORY = "the old king went down to the sea and told his daughter that it was cold and grey"
NUM_PROMPTS = 24
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["sea", "king"]}, "big": {"type": "boolean"}},
    "required": ["name", "big"],
    "additionalProperties": False,
}
LIMIT_S = 120.0
SETTINGS = ("--deterministic", "--memory-fraction", "0.05")


class Soak:
    def __init__(self, url: str, options: argparse.Namespace) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._options = options
        self._random = random.Random(options.seed)
        self._expected: dict[str, str] = {}  # by body
        self._hostile: list[Hostile] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.windows: list[Window] = []

    async def run(self) -> dict[str, Any]:
        models = json.loads((await self._ask(b"GET", "/v1/models")).body)["data"]
        self._hostile = hostile_requests(models[0]["max_model_len"])
        for number in range(NUM_PROMPTS):
            for path, body in self._greedy(number):
                self._expected[json.dumps([path, body])] = await self._text(path, body)
        held = await self._held()
        self._started_at = time.monotonic()
        self._ends_at = self._started_at + 60 * self._options.minutes
        levels = self._options.concurrency
        self.windows = [Window(0.0, levels[0])]
        clients = [asyncio.create_task(self._client(i)) for i in range(max(levels))]
        sampler = asyncio.create_task(self._sample())
        await asyncio.gather(*clients)
        sampler.cancel()
        await self._end_window()
        return await self._report(models[0]["id"], held)

    # --- what is asked

    def _greedy(self, number: int) -> list[tuple[str, dict[str, Any]]]:
        words = list(itertools.islice(itertools.cycle(STORY.split()), 40 + 3 * (number % 4)))
        text = " ".join([*words, str(number)])
        settings = {"max_tokens": 8 + number % 24, "temperature": 0}
        return [
            (COMPLETIONS, {"prompt": text, **settings}),
            (CHAT, {"messages": [{"role": "user", "content": text}], **settings}),
        ]

    async def _client(self, number: int) -> None:
        while time.monotonic() < self._ends_at:
            if number >= self.windows[-1].concurrency:
                await asyncio.sleep(0.1)
                continue
            draw = self._random.random()
            if draw < self._options.hostile:
                await self._one("hostile", self._send_hostile())
            elif draw < self._options.hostile + 0.1:
                await self._one("left", self._leave())
            elif draw < self._options.hostile + 0.2:
                await self._one("structured", self._ask_structured())
            elif draw < self._options.hostile + 0.25:
                await self._one("embedding", self._ask_embedding())
            else:
                await self._one("greedy", self._ask_greedy())

    async def _one(self, kind: str, work: Any) -> None:
        started_at, window = time.monotonic(), self.windows[-1]
        self.counts[kind] += 1
        try:
            fault = await work
        except (asyncio.TimeoutError, OSError) as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            self.faults.append(f"{kind} at {started_at - self._started_at:.1f} s: {fault}"[:300])
        if kind in ("greedy", "structured", "embedding"):
            window.latencies.append(time.monotonic() - started_at)

    async def _send_hostile(self) -> str:
        request = self._random.choice(self._hostile)
        fault = (await ask(*self._address, request.data, LIMIT_S)).fault(request)
        return f"{request.name}: {fault}" if fault else ""

    async def _leave(self) -> str:
        body = {"prompt": STORY, "max_tokens": 400, "ignore_eos": True, "stream": True}
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(post(COMPLETIONS, body))
        await asyncio.wait_for(reader.read(self._random.choice([1, 300, 3000])), LIMIT_S)
        writer.transport.abort()
        return ""

    async def _ask_structured(self) -> str:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        # Room for all the white space that a schema allows.
        body = {"prompt": STORY, "max_tokens": 400, "response_format": form}
        text = await self._text(COMPLETIONS, body)
        try:
            value = json.loads(text)
            return "" if set(value) == {"name", "big"} else f"not of the schema: {text}"
        except ValueError:
            return f"no JSON: {text}"

    async def _ask_embedding(self) -> str:
        vector = json.loads((await self._ask(b"POST", EMBEDDINGS, {"input": STORY})).body)
        length = math.hypot(*vector["data"][0]["embedding"])
        return "" if abs(length - 1) < 1e-3 else f"a vector of length {length}"

    async def _ask_greedy(self) -> str:
        path, body = self._random.choice(self._greedy(self._random.randrange(NUM_PROMPTS)))
        expected = self._expected[json.dumps([path, body])]
        text = await self._text(path, {**body, "stream": self._random.random() < 0.6})
        return "" if text == expected else f"{path}: {text!r} instead of {expected!r}"

    async def _ask(self, method: bytes, path: str, body: Any = None) -> Any:
        data = post(path, b"" if body is None else body).replace(b"POST", method, 1)
        while True:
            answer = await ask(*self._address, data, LIMIT_S)
            if answer.status not in (429, 503):
                break
            self.counts["put off"] += 1
            await asyncio.sleep(0.5 + self._random.random())
        if answer.status != 200:
            raise OSError(answer.status, answer.body[:200].decode(errors="replace"))
        return answer

    async def _text(self, path: str, body: dict[str, Any]) -> str:
        """Of the first choice, streamed or whole."""
        answer = await self._ask(b"POST", path, body)
        if not body.get("stream"):
            choice = json.loads(answer.body)["choices"][0]
            return str(choice["text"] if "text" in choice else choice["message"]["content"])
        events = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
        if not events or events[-1].strip() != b"[DONE]":
            raise OSError(0, f"a stream without an end: {answer.body[-200:]!r}")
        choices = [json.loads(event)["choices"][0] for event in events[:-1]]
        return "".join(
            c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices
        )

    # --- what is measured

    async def _sample(self) -> None:
        length_s = 60 * self._options.minutes / self._options.windows
        while True:
            await asyncio.sleep(length_s)
            await self._end_window()
            levels = self._options.concurrency
            level = levels[len(self.windows) % len(levels)]
            self.windows.append(Window(time.monotonic() - self._started_at, level))

    async def _end_window(self) -> None:
        metrics = await self._metrics()
        self.windows[-1].load_average = os.getloadavg()[0]
        self.windows[-1].rss = {
            process: metrics[f'rocmforge_resident_bytes{{process="{process}"}}']
            for process in ("server", "engine")
        }

    async def _metrics(self) -> dict[str, float]:
        text = (await self._ask(b"GET", "/metrics")).body.decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    async def _held(self) -> dict[str, float]:
        """What a server that is idle has, of its own and of the system."""
        await asyncio.sleep(2)  # heartbeats tell of what has ended
        metrics = await self._metrics()
        return {what: metrics[f"rocmforge_server_{what}"] for what in ("tasks", "descriptors")}

    async def _report(self, model: str, before: dict[str, float]) -> dict[str, Any]:
        after = await self._held()
        metrics = await self._metrics()
        leftovers = {
            "running": metrics["rocmforge_requests_running"],
            "waiting": metrics["rocmforge_requests_waiting"],
            "blocks": metrics["rocmforge_kv_blocks"] - metrics["rocmforge_kv_blocks_free"],
            "engine restarts": metrics["rocmforge_engine_restarts_total"],
            **{what: max(0.0, after[what] - before[what]) for what in after},
        }
        self.faults += [f"left at the end: {n} {what}" for what, n in leftovers.items() if n]
        later = self.windows[len(self.windows) // 5 :]
        slopes = {
            process: slope([w.at_s for w in later], [w.rss[process] / 2**20 for w in later])
            for process in ("server", "engine")
        }
        return {
            "model": model,
            "minutes": self._options.minutes,
            "p99_s": {level: self._p99(level) for level in self._options.concurrency},
            "hostile_share": self._options.hostile,
            "requests": dict(self.counts),
            "held_when_idle": {"before": before, "after": after},
            "faults": self.faults[:100],
            "num_faults": len(self.faults),
            "rss_mib_per_hour": {
                process: None if found is None else {"slope": found[0], "plus_minus": found[1]}
                for process, found in slopes.items()
            },
            "windows": [window.told() for window in self.windows],
        }

    def _p99(self, level: int) -> dict[str, float | None]:
        """Of the first and of the second half of the time, at one concurrency."""
        middle = self._started_at + 30 * self._options.minutes
        halves: dict[str, list[float]] = {"first half": [], "second half": []}
        for window in self.windows:
            if window.concurrency == level:
                is_late = self._started_at + window.at_s >= middle
                halves["second half" if is_late else "first half"] += window.latencies
        return {name: quantile(latencies, 0.99) for name, latencies in halves.items()}


def concurrencies(text: str) -> list[int]:
    return [int(level) for level in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", help="of a server that runs")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--concurrency", type=concurrencies, default=[1, 4, 16, 64])
    parser.add_argument("--hostile", type=float, default=0.3, help="share of hostile requests")
    parser.add_argument("--windows", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.url is None:
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
            started = rocmforge_server(embedded_model(), 1, 1024, log, *SETTINGS)
            host, port = stack.enter_context(started).address
            options.url = f"http://{host}:{port}"
        report = soak(options)
    text = json.dumps(report, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 1 if report["num_faults"] else 0


def soak(options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(timespec="seconds"),
        "command": command(),
        "machine": machine(),
        "versions": rocmforge_build(),
        **asyncio.run(Soak(options.url, options).run()),
    }


if __name__ == "__main__":
    sys.exit(main())
