"""From the start of a process to its first token, and the memory it takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from side_by_side.agreement import check_agreement
from side_by_side.client import Engine, Worker
from side_by_side.statistics import summary

TEXT = "The quick brown fox jumps over the lazy dog"
CONTEXT_TOKENS = 1024
MEMORY_PROMPT, MEMORY_OUTPUT = 512, 16
COUNTED = (
    "load_to_first_token: opening the file, vocabulary, weights (repacked where the engine does), "
    f"a context of {CONTEXT_TOKENS} tokens, a short text tokenized and computed, one token drawn; "
    "Python and the engine's modules are imported already. process_to_first_token: from the "
    "start of the process, imports included. The file is in the page cache. peak_rss: VmHWM of "
    f"that process after a prompt of {MEMORY_PROMPT} tokens and {MEMORY_OUTPUT} decoded."
)


def agreement(engines: tuple[Engine, Engine], path: Path, threads: int) -> dict[str, float]:
    """Brings the file into the page cache, too."""
    with ExitStack() as stack:
        workers = [stack.enter_context(closing(Worker(engine))) for engine in engines]
        for worker in workers:
            _first_token(worker, path, threads)
        return check_agreement(*workers)


def first_tokens(
    engines: tuple[Engine, Engine],
    path: Path,
    threads: int,
    repetitions: int,
    announce: Callable[[str], None],
) -> dict[str, Any]:
    """Samples of both engines, in turn."""
    answers: dict[str, list[dict[str, float]]] = {engine.name: [] for engine in engines}
    for i in range(repetitions):
        for engine in engines:
            announce(f"first token {i + 1}/{repetitions}: {engine.name}")
            with closing(Worker(engine)) as worker:
                answer = _first_token(worker, path, threads)
                answer |= worker.ask("memory", prompt=MEMORY_PROMPT, output=MEMORY_OUTPUT)
            answers[engine.name].append(answer)
    return {"counted": COUNTED} | {
        name: {key: summary([row[key] for row in rows]) for key in rows[0]}
        for name, rows in answers.items()
    }


def _first_token(worker: Worker, path: Path, threads: int) -> dict[str, Any]:
    return worker.ask(
        "first_token",
        path=str(path),
        threads=threads,
        started=worker.started,
        text=TEXT,
        context=CONTEXT_TOKENS,
        **worker.engine.load_arguments,
    )
