"""`rocmforge pull`: a model from the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer

from rocmforge.cli.command import JsonOption
from rocmforge.cli.terminal import progress, write, write_json


def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/REPO[:FILE]", help="FILE is a file's name, or its end, such as Q4_K_M."
        ),
    ],
    json_output: JsonOption = False,
) -> None:
    """Download a model, so that every --model takes its name. Goes on where an earlier pull ended.

    HF_ENDPOINT, HF_TOKEN and ROCMFORGE_MODELS (the folder) are read from the environment. The
    SHA-256 of what was downloaded is compared with the hub's.
    """
    from rocmforge.hub.pull import PullProgress
    from rocmforge.hub.pull import pull as pull_model

    so_far = PullProgress()
    with progress(f"pulling {model}", so_far.text):
        files = pull_model(model, progress=so_far)
    if json_output:
        report = [
            {
                "path": str(file.path),
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "resumed_at": file.resumed_at,
            }
            for file in files
        ]
        write_json({"model": model, "path": str(files[0].path), "files": report})
    else:
        write(f"{files[0].path}\n")
