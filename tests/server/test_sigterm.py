"""SIGTERM at any moment ends the server within its limit, and its engine with it.

ROCMFORGE_SIGTERM_POINTS is how many moments; `make requests` has 200.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from served import SMALL, Served, connected, wait_for

from hostile.exchange import post

NUM_POINTS = int(os.environ.get("ROCMFORGE_SIGTERM_POINTS", "5"))
NUM_AT_ONCE = 3
LIMITS = ("--max-num-seqs", "2", "--max-queue", "4")
MOMENTS = ("loading", "streaming", "queued", "engine lost", "ending")
# After draining. The rest is what a busy machine may take.
EXIT_S = 5.0
BUSY_S = 5.0
ENDLESS = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "stream": True}


@pytest.mark.timeout(120 + 20 * NUM_POINTS)
def test_sigterm_at_any_moment_ends_server_and_engine(
    tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    def end(point: int) -> float:
        moment = MOMENTS[point % len(MOMENTS)]
        return end_at(moment, random.Random(point), tmp_path / f"{point}.log")

    with ThreadPoolExecutor(NUM_AT_ONCE) as workers:
        slowest = max(workers.map(end, range(NUM_POINTS)))
    record_testsuite_property("most_s_after_draining", round(slowest, 3))  # for --junitxml


def end_at(moment: str, random_: random.Random, log: Path) -> float:
    """Seconds from the signal to the exit, less those of draining."""
    drain_s = random_.choice([0.0, 0.3])
    with log.open("w") as errors, ExitStack() as stack:
        process = stack.enter_context(start(drain_s, errors))
        stack.callback(kill, process)
        assert process.stdout is not None
        begun = ""
        if moment == "loading":
            served = Served("", process, log)
            wait_for(lambda: has_handlers(process.pid) or bool(served.children()))
            assert has_handlers(process.pid)  # from before there is anything to end
            time.sleep(random_.uniform(0, 1.2))
        else:
            begun = process.stdout.readline()
            served = Served(json.loads(begun)["url"], process, log)
            trouble(served, moment, random_, stack)
        engines = served.children()
        # A service manager signals all processes, a container's the first.
        signal_ = os.killpg if random_.random() < 0.5 else os.kill
        started_at = time.monotonic()
        signal_(process.pid, signal.SIGTERM)
        code = process.wait(drain_s + EXIT_S + BUSY_S)
        over_s = time.monotonic() - started_at - drain_s
        told = log.read_text()
        assert code == 0, (moment, code, told)
        for engine in engines:
            wait_for(lambda: not is_running(engine))  # noqa: B023 - is called here
        printed = begun + process.stdout.read()
        assert re.fullmatch(r"({.*}\n)?", printed), printed
        assert all(set(json.loads(line)) == {"url", "pid"} for line in printed.splitlines())
        # An engine that a signal met before it could ignore it may say so.
        assert '"traceback"' not in told, told
        return over_s


def start(drain_s: float, errors: Any) -> subprocess.Popen[str]:
    options = [*SMALL, *LIMITS, "--drain", str(drain_s)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ROCMFORGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "rocmforge", "serve", "--json", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=kept,
        start_new_session=True,
    )


def trouble(served: Served, moment: str, random_: random.Random, stack: ExitStack) -> None:
    """Brings a server into some state, and waits for some moment of it."""
    num_clients = {"streaming": 2, "queued": 6}.get(moment, random_.randrange(5))
    for _ in range(num_clients):
        client = stack.enter_context(connected(served))
        body = {**ENDLESS, "n": 1 + random_.randrange(2), "stream": random_.random() < 0.7}
        client.sendall(post("/v1/completions", body))
        if moment == "streaming" and body["stream"]:
            client.recv(1 + random_.randrange(2000))
    if moment == "engine lost":
        for engine in served.children():
            os.kill(engine, random_.choice([signal.SIGKILL, signal.SIGSTOP]))
    # To beyond the back-off and the loading that follow.
    time.sleep(random_.uniform(0, 1.5 if moment == "engine lost" else 0.3))
    if moment == "ending":
        (engine,) = served.children()
        os.kill(engine, signal.SIGKILL)


def kill(process: subprocess.Popen[str]) -> None:
    """A server that a test has not ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def has_handlers(pid: int) -> bool:
    """Whether it catches SIGTERM; before that the signal itself ends it."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"SigCgt:\t([0-9a-f]+)", status)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status
