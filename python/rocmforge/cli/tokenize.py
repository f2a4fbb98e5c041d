"""`rocmforge tokenize`: how a model reads a text."""

from __future__ import annotations

from typing import Annotated

import typer

from rocmforge.cli.command import JsonOption
from rocmforge.cli.terminal import write, write_json
from rocmforge.cli.text_input import text_or_stdin

SPECIAL_HELP = "Read special tokens in the text as such, and add the model's begin and end marks."


def tokenize(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text; - reads stdin.")] = "-",
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="M", help="A .gguf file.")
    ] = None,
    special: Annotated[bool, typer.Option("--special", help=SPECIAL_HELP)] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Show the tokens of a text; any file with a vocabulary will do."""
    from rocmforge.hub.store import located
    from rocmforge.model.loader import embedded_model
    from rocmforge.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_gguf(embedded_model() if model is None else located(model))
    text = text_or_stdin(text)
    token_ids = tokenizer.encode(text, add_special=special, parse_special=special)
    pieces = [tokenizer.token_bytes(id).decode(errors="replace") for id in token_ids]
    if json_output:
        write_json({"token_ids": token_ids, "tokens": pieces})
    elif ids:
        write(" ".join(map(str, token_ids)) + "\n")
    else:
        width = len(str(tokenizer.vocab_size))
        lines = (f"{i:>{width}}  {p!r}\n" for i, p in zip(token_ids, pieces, strict=True))
        write("".join(lines))
