"""A process that holds one engine: a JSON object a line comes in, and one goes out.

Also runs in the peer's Python, so the standard library is all it needs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path


def serve(engine: object) -> None:
    """Answers {"do": method, argument: value, ...} until the input ends.

    An exception ends the process, its traceback on the standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    for line in sys.stdin:
        command = json.loads(line)
        answer = getattr(engine, command.pop("do"))(**command)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def floats_as_text(data: bytes) -> str:
    """Little-endian float32 as base64."""
    return base64.b64encode(data).decode()


def peak_rss_bytes() -> int:
    """The process's VmHWM, which counts mapped pages of files as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def built_with(libraries: Iterable[Path]) -> list[str]:
    """Compilers, which a stripped library does not name, and the OpenMP run time if any.

    libomp.so comes with clang, libgomp.so with gcc.
    """
    pattern = re.compile(
        rb"(?:[A-Za-z]+ )?clang version [0-9.]+|GCC: \([^)]*\) [0-9.]+|lib[gi]?omp[0-9]*\.so"
    )
    found = {name.decode() for path in libraries for name in pattern.findall(path.read_bytes())}
    return sorted(found)
