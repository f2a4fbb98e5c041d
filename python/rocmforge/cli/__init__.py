"""The command line. What a command needs is imported when it runs: `--version` takes no model."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; never raises, never prints a traceback
    unless `--debug` is among the arguments."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    from rocmforge.cli.failures import reported
    from rocmforge.cli.terminal import open_missing_streams

    open_missing_streams()
    with reported(debug="--debug" in _options(given)) as outcome:
        if given == ["--version"]:
            from rocmforge.cli.version import show_version

            show_version()
        elif given == ["--cmake-dir"]:
            from rocmforge.cli.version import show_cmake_dir

            show_cmake_dir()
        else:
            from rocmforge.cli.app import run

            outcome.exit_code = run(given)
    return outcome.exit_code


def _options(arguments: list[str]) -> list[str]:
    """The arguments before `--`, after which everything is text."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments
