"""The asking side of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
# OpenMP's threads spin for 0.2 s after their last work; the other engine's turn comes after.
SETTLING_S = 0.3


class WorkerError(Exception):
    """A worker ended early; it has printed why."""


@dataclass(frozen=True)
class Engine:
    """How to start a worker, and what it wants told besides the common arguments."""

    name: str
    module: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)
    load_arguments: Mapping[str, Any] = field(default_factory=dict)


class Worker:
    """A worker process, alive until close()."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [engine.python, "-m", f"side_by_side.{engine.module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **engine.environment},
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Raises WorkerError if the worker ends instead of answering."""
        if self._process.stdin is None or self._process.stdout is None:
            raise WorkerError(self.engine.name)
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            message = f"{self.engine.name} ended with {self._process.wait()} while asked to {do}"
            raise WorkerError(message)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask_in_turn(self, do: str, **arguments: Any) -> dict[str, Any]:
        """ask() after a pause in which whatever ran before has come to rest."""
        time.sleep(SETTLING_S)
        return self.ask(do, **arguments)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # of a command that was never read
                    pipe.close()


def rocmforge(python: str, isa: str | None) -> Engine:
    """This build, at the CPU's best level or at `isa`."""
    path = os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))
    environment = {"PYTHONPATH": path} | ({"ROCMFORGE_CPU_ISA": isa} if isa else {})
    return Engine("rocmforge", "rocmforge_worker", python, environment)


def llama_cpp(python: str, repack: bool) -> Engine:
    """llama-cpp-python of the given Python; with `repack` its best configuration."""
    environment = {"PYTHONPATH": str(BENCHMARKS)}
    return Engine("llama_cpp", "llama_cpp_worker", python, environment, {"repack": repack})
