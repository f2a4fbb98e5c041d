"""`rocmforge generate`: text goes on from a prompt, printed as it comes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.loading import opened
from rocmforge.cli.streaming import follow
from rocmforge.cli.terminal import note, write, write_generated, write_json
from rocmforge.cli.text_input import text_of_file, text_or_stdin


def generate(
    load: ModelOptions,
    prompt: Annotated[
        str, typer.Argument(metavar="PROMPT", help="The beginning; - reads stdin.")
    ] = "",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", metavar="N", help="Tokens to generate at most.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="0 is the likeliest token always.")
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="K", help="Draw among K tokens; 0 is all.")
    ] = 40,
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="P", help="Draw among this share; 1 is all.")
    ] = 0.95,
    min_p: Annotated[
        float, typer.Option("--min-p", metavar="P", help="Drop below this share of the likeliest.")
    ] = 0.0,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="The same seed, the same text.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="S", help="End before this text.")
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the model's end of text.")
    ] = False,
    json_schema: Annotated[
        str | None, typer.Option("--json-schema", metavar="FILE", help="A schema to follow.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Continue PROMPT with a model."""
    from rocmforge import SamplingParams

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        stop=stop or (),
        ignore_eos=ignore_eos,
        json_schema=None if json_schema is None else text_of_file(json_schema),
    )
    prompt = text_or_stdin(prompt)
    with opened(load) as llm:
        if not json_output and sys.stdout.isatty():
            write_generated(prompt)
        result = follow(llm.stream(prompt, params), None if json_output else write_generated)
        if not json_output:
            write("\n")
            note(result.summary())
            return
        write_json(
            {
                "text": result.text,
                "token_ids": result.token_ids,
                "prompt_token_ids": result.prompt_token_ids,
                "finish_reason": result.finish_reason,
                "model": llm.name,
                "device": llm.device,
                "load_s": llm.load_s,
                "prefill_tokens_per_s": result.prefill_tokens_per_s,
                "decode_tokens_per_s": result.decode_tokens_per_s,
            }
        )
