"""Servers as processes of their own, on ports that were free."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START_S = 120.0


@dataclass(frozen=True)
class Server:
    name: str
    address: tuple[str, int]
    pids: list[int]  # the HTTP process first


@contextmanager
def rocmforge_server(
    model: Path, threads: int, ctx: int, log: Path, *more: str
) -> Iterator[Server]:
    arguments = ["--model", str(model), "--threads", str(threads), "--ctx", str(ctx), *more]
    command = [sys.executable, "-m", "rocmforge", "serve", "--json", "--port", "0", *arguments]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=kept
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line:
                raise OSError(0, f"rocmforge serve ended: {log.read_text()[-2000:]}")
            parts = urlsplit(json.loads(line)["url"])
            address = (parts.hostname or "", parts.port or 0)
            yield Server("rocmforge", address, [process.pid, *_children(process.pid)])
        finally:
            process.kill()


@contextmanager
def llama_server(
    program: Path, model: Path, threads: int, ctx: int, slots: int, log: Path
) -> Iterator[Server]:
    """llama.cpp's own, with `slots` sequences of up to `ctx` tokens at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [
        *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--threads", str(threads), "--threads-batch", str(threads)),
        *("--parallel", str(slots), "--ctx-size", str(slots * ctx), "--no-ui"),
    ]
    with log.open("w") as output:
        process = subprocess.Popen([program, *arguments], stdout=output, stderr=output)
    with process:
        try:
            _wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield Server("llama_server", ("127.0.0.1", port), [process.pid])
        finally:
            process.kill()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - http, this machine
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise OSError(0, f"llama-server does not serve: {log.read_text()[-2000:]}")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
