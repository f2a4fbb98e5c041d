"""How a command ends when it does not succeed: one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rocmforge.errors import RocmForgeError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@dataclass(slots=True)
class Outcome:
    exit_code: int = 0


@contextmanager
def reported(*, debug: bool) -> Iterator[Outcome]:
    """Turns whatever leaves the block into a line on stderr and the outcome's exit code.

    stdout is flushed inside, so that a reader that has gone away is noticed here and not by the
    interpreter as it exits.
    """
    outcome = Outcome()
    try:
        yield outcome
        sys.stdout.flush()
    except BrokenPipeError:
        outcome.exit_code = EXIT_FAILURE
        _discard_stdout()
    except KeyboardInterrupt:
        outcome.exit_code = EXIT_INTERRUPTED
        _say("interrupted")
    except RocmForgeError as error:
        outcome.exit_code = error.exit_code
        _explain(error, str(error), debug=debug)
    except MemoryError as error:
        outcome.exit_code = EXIT_FAILURE
        _explain(error, "out of memory", debug=debug)
    except OSError as error:
        outcome.exit_code = EXIT_FAILURE
        _explain(error, _told(error), debug=debug)
    except Exception as error:  # noqa: BLE001 - the last place to say anything about it
        outcome.exit_code = EXIT_FAILURE
        hint = "" if debug else "; run it again with --debug and report the traceback"
        _explain(error, f"a bug: {type(error).__name__}: {error}{hint}", debug=debug)


def one_line(text: str) -> str:
    """`text` on one line; what a file put into it must not steer the terminal."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def _told(error: OSError) -> str:
    """Without a name it is of stdout: what commands open says its name."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename or 'the output cannot be written'}: {error.strerror}"


def _explain(error: BaseException, message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    _say(one_line(message))


def _say(message: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()
    print(f"rocmforge: {message}", file=sys.stderr)  # noqa: T201


def _discard_stdout() -> None:
    """Gives the interpreter's last flush a place to go."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
