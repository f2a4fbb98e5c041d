"""`rocmforge embed`: vectors for texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.loading import opened
from rocmforge.cli.terminal import progress, write, write_json
from rocmforge.cli.text_input import text_or_stdin

if TYPE_CHECKING:
    from rocmforge.model.pooling import Pooling

POOLING_HELP = "mean, cls (the first token) or last; what the model's file names by default."


def embed(
    load: ModelOptions,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Texts; - reads stdin.")],
    pooling: Annotated[
        str | None, typer.Option("--pooling", metavar="P", help=POOLING_HELP)
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Do not scale vectors to length 1.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Turn texts into vectors, a line of numbers each.

    Similar texts have similar vectors.

    Models that generate text give the mean of their hidden states, unless --pooling says otherwise.
    """
    from rocmforge.model.pooling import checked_pooling

    if pooling is not None:
        checked_pooling(cast("Pooling", pooling))
    texts = [text_or_stdin(text) for text in texts]
    with opened(load) as llm:
        kind = cast("Pooling", pooling or llm.pooling)
        with progress(f"embedding {len(texts)} texts"):
            vectors = llm.embed(texts, pooling=kind, normalize=not raw)
    if json_output:
        write_json(
            {
                "embeddings": vectors.tolist(),
                "dimensions": vectors.shape[1],
                "pooling": kind,
                "normalized": not raw,
                "model": llm.name,
                "device": llm.device,
            }
        )
    else:
        write("".join(" ".join(f"{x:.6g}" for x in vector) + "\n" for vector in vectors.tolist()))
