"""A real server: `rocmforge serve` in a process of its own, on a port that was free."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE_S = 30.0
SMALL = ("--ctx", "512", "--memory-fraction", "0.05", "--threads", "1")


@dataclass(frozen=True)
class Served:
    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        return self.request("POST", path, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        # Reading the machine's certificates, which nobody needs here, takes longer than the rest.
        options = {"verify": False, "timeout": PATIENCE_S, **options}
        return httpx.request(method, self.url + path, **options)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        lines = self.get("/metrics").text.splitlines()
        values = [line.rsplit(" ", 1)[1] for line in lines if line.split("{")[0].split()[0] == name]
        assert values, name
        return sum(map(float, values))

    def wait_until_idle(self) -> None:
        """Until nothing runs, and no request holds a block."""
        wait_for(lambda: self.get("/v1/status").json()["pending_requests"] == 0)
        # What the engine has said so far may be older than the requests that it was sent.
        num_told = self.metric("rocmforge_engine_heartbeats_total")
        wait_for(lambda: self.metric("rocmforge_engine_heartbeats_total") > num_told)
        wait_for(self._is_idle)

    def _is_idle(self) -> bool:
        return (
            self.metric("rocmforge_requests_running") == 0
            and self.metric("rocmforge_requests_waiting") == 0
            and self.metric("rocmforge_kv_blocks_free") == self.metric("rocmforge_kv_blocks")
        )

    def children(self) -> list[int]:
        """Ids of the processes it has started: its engine's."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    @property
    def cpu_s(self) -> float:
        """Seconds of work of the server itself, without the engine."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_entries(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """Ends it the hard way if the test has not ended it."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "rocmforge", "serve", "--json", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**kept, **environment},
        )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Served(json.loads(line)["url"], process, log)
        finally:
            process.kill()


def connected(served: Served) -> socket.socket:
    parts = urlsplit(served.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def terminate(served: Served) -> int:
    """SIGTERM, and the exit code."""
    served.process.send_signal(signal.SIGTERM)
    return served.process.wait(PATIENCE_S)


def events_of(text: str) -> list[Any]:
    """The data of server-sent events; the last of OpenAI's is a plain text."""
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    texts = [block.removeprefix("data: ") for block in blocks]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]
