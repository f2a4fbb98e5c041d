"""`rocmforge check`: is this file a model that this build can run?"""

from __future__ import annotations

from typing import Annotated

import typer

from rocmforge.cli.command import JsonOption
from rocmforge.cli.failures import one_line
from rocmforge.cli.terminal import note, write, write_json
from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError


def check(
    model: Annotated[str, typer.Argument(metavar="M", help="A .gguf file, or a pulled name.")],
    json_output: JsonOption = False,
) -> None:
    """Validate a model without loading it.

    Ends with 0, or with 1 and the reason, offset and key.
    """
    from rocmforge.hub.store import located
    from rocmforge.model import check_model
    from rocmforge.tokenizer import Tokenizer

    try:
        path = located(model)
        report = check_model(path)
        Tokenizer.from_gguf(path)
    except (InvalidArgumentError, ModelFileError, UnsupportedError) as error:
        if json_output:
            write_json(
                {
                    "path": model,
                    "ok": False,
                    "error": type(error).__name__,
                    "reason": str(error),
                    "offset": getattr(error, "offset", None),
                    "key": getattr(error, "key", None),
                }
            )
        note(one_line(f"rocmforge: {error}"))
        raise typer.Exit(error.exit_code) from None
    if json_output:
        write_json(
            {
                "path": model,
                "ok": True,
                "architecture": report.config.architecture,
                "num_tensors": report.num_tensors,
                "num_parameters": report.num_parameters,
                "size_bytes": report.size_bytes,
                "unused_tensors": report.unused_tensors,
            }
        )
    else:
        write(f"{model}: ok ({report.config.architecture}, {report.num_tensors} tensors)\n")
        if report.unused_tensors:
            note(f"unused tensors: {', '.join(report.unused_tensors[:8])}")
