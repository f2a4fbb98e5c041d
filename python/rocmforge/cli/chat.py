"""`rocmforge chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.loading import opened
from rocmforge.cli.terminal import note, write, write_generated, write_json
from rocmforge.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from rocmforge import LLM, SamplingParams

PROMPT = "> "
EXIT = "/exit"


def chat(
    load: ModelOptions,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="What the model is to be.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", metavar="N", help="Of one answer, at most.")
    ] = 1024,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="0 is the likeliest token always.")
    ] = 0.8,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", help="The same seed, the same answers.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Talk with a model.

    /exit or Ctrl-D ends the conversation, Ctrl-C stops an answer.

    With --json the answers are not shown; the whole conversation is printed at the end.
    """
    from rocmforge import SamplingParams
    from rocmforge.engine.admission import check_predicts

    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    messages: list[dict[str, Any]] = []
    if system is not None:
        messages.append({"role": "system", "content": system})
    with opened(load) as llm:
        check_predicts(llm.can_generate)
        if llm.tokenizer.chat_template_source is None:
            msg = f"{llm.name} has no chat template; use `rocmforge generate` with it"
            raise UnsupportedError(msg)
        if sys.stdin.isatty():
            note(f"{llm.name}: {EXIT} or Ctrl-D ends the conversation, Ctrl-C an answer.")
        while (line := _read_line()) is not None:
            if not line.strip():
                continue
            messages.append({"role": "user", "content": line})
            reply = _answer(llm, messages, params, shown=not json_output)
            messages.append({"role": "assistant", "content": reply})
    if json_output:
        write_json({"model": llm.name, "device": llm.device, "messages": messages})


def _read_line() -> str | None:
    """The next line of the user; None at the end of input and for /exit."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401 - gives input() history and editing
    try:
        line = input(PROMPT) if interactive else next(sys.stdin).rstrip("\n")
    except KeyboardInterrupt:
        if interactive:
            note("")  # the message goes on a line of its own
        raise
    except UnicodeDecodeError as error:
        msg = f"stdin is not UTF-8: {error.reason}"
        raise InvalidArgumentError(msg) from None
    except (EOFError, StopIteration):
        if interactive:
            note("")
        return None
    return None if line.strip() == EXIT else line


def _answer(
    llm: LLM, messages: list[dict[str, Any]], params: SamplingParams, *, shown: bool
) -> str:
    """The model's answer, cut where Ctrl-C stopped it."""
    text = ""
    deltas = llm.stream_chat(messages, params)
    try:
        for delta in deltas:
            text += delta.text
            if shown:
                write_generated(delta.text)
    except KeyboardInterrupt:
        deltas.close()
        note("\n(stopped)")
    else:
        if shown:
            write("\n")
    return text
