"""The commands, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from rocmforge.cli import (
    bench,
    chat,
    check,
    context,
    devices,
    doctor,
    embed,
    generate,
    info,
    perplexity,
    pull,
    quantize,
    serve,
    tokenize,
)
from rocmforge.cli.command import CarriedError, command
from rocmforge.cli.failures import EXIT_USAGE, one_line
from rocmforge.cli.terminal import note
from rocmforge.cli.version import show_cmake_dir, show_version

COMMANDS: dict[str, Callable[..., None]] = {
    "generate": generate.generate,
    "chat": chat.chat,
    "embed": embed.embed,
    "serve": serve.serve,
    "info": info.info,
    "check": check.check,
    "tokenize": tokenize.tokenize,
    "bench": bench.bench,
    "perplexity": perplexity.perplexity,
    "pull": pull.pull,
    "quantize": quantize.quantize,
    "devices": devices.devices,
    "doctor": doctor.doctor,
}

# typer carries its own copy of click or uses the package, by version; its errors tell which.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickException: Any = _UsageError.__mro__[1]


def run(arguments: list[str]) -> int:
    """Parses the arguments and runs a command; a usage error is one line and exit code 2."""
    app = typer.Typer(
        name="rocmforge",
        help="LLM inference from GGUF files.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name, function in COMMANDS.items():
        app.command(name)(command(function))
    group = typer.Typer(help=context.HELP, rich_markup_mode=None)
    for name, function in context.COMMANDS.items():
        group.command(name)(command(function))
    app.add_typer(group, name="context")
    try:
        result = app(arguments or ["--help"], prog_name="rocmforge", standalone_mode=False)
    except CarriedError as carried:
        raise carried.error from None
    except _UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "rocmforge"
        said = error.format_message().rstrip(". ")
        note(one_line(f"{path}: {said}. Try '{path} --help'."))
        return EXIT_USAGE
    except _ClickException as error:
        note(one_line(f"rocmforge: {error.format_message()}"))
        return EXIT_USAGE
    if not arguments:
        return EXIT_USAGE
    return result if isinstance(result, int) else 0


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show version, commit, and what was built.")
    ] = False,
    cmake_dir: Annotated[
        bool, typer.Option("--cmake-dir", help="Show where CMake finds the C++ library.")
    ] = False,
) -> None:
    if version:
        show_version()
    if cmake_dir:
        show_cmake_dir()
    if version or cmake_dir:
        raise typer.Exit
