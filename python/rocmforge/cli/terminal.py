"""stdout carries results, stderr everything else."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PROGRESS_AFTER_S = 1.0
PROGRESS_EVERY_S = 10.0


def open_missing_streams() -> None:
    """/dev/null for those of the three streams that the parent has closed.

    Else the next file that is opened would take their number, a model's for example that of stdout.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def write(text: str) -> None:
    """Puts text on stdout at once, characters that its encoding lacks as `?`."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def write_generated(text: str) -> None:
    """Puts what a model says on stdout. A terminal gets no control characters of it."""
    if sys.stdout.isatty():
        text = "".join(
            "\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text
        )
    write(text)


def write_json(value: Mapping[str, Any]) -> None:
    """Puts one JSON object on stdout. A number that JSON lacks (NaN) is null."""
    write(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False) + "\n")


def note(text: str) -> None:
    """Puts a line on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def progress(what: str, detail: Callable[[], str] = str) -> Iterator[None]:
    """Shows on stderr that something is going on, if it takes longer than a second.

    On a terminal a spinner with the seconds, elsewhere a line at once and then every ten seconds;
    with what `detail` tells of how far it is.
    """
    done = threading.Event()
    show = _spin if sys.stderr.isatty() else _tell
    thread = threading.Thread(target=show, args=(what, detail, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _spin(what: str, detail: Callable[[], str], done: threading.Event) -> None:
    if done.wait(PROGRESS_AFTER_S):
        return
    from rich.console import Console
    from rich.markup import escape

    start = time.monotonic() - PROGRESS_AFTER_S
    console = Console(stderr=True)
    with console.status(escape(what)) as status:
        while not done.wait(0.2):
            status.update(escape(_so_far(what, start, detail)))


def _tell(what: str, detail: Callable[[], str], done: threading.Event) -> None:
    start = time.monotonic()
    wait = PROGRESS_AFTER_S
    while not done.wait(wait):
        note(_so_far(what, start, detail))
        wait = PROGRESS_EVERY_S


def _so_far(what: str, start: float, detail: Callable[[], str]) -> str:
    seconds = f"{time.monotonic() - start:.0f} s"
    return f"{what} ({', '.join(filter(None, [seconds, detail()]))})"
