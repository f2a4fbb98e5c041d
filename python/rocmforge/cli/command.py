"""Turns a function into a command: the options that all commands share, and those of all that
load a model, stand here alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

MODEL_HELP = (
    "A .gguf file, or a pulled owner/repo[:file]; without it the story model of the package."
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback on failure.")]


class CarriedError(Exception):
    """Brings an interrupt or an operating system's error past typer, which has ways of its own
    to end the process at these."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class ModelOptions:
    """Which model to load, and how."""

    model: Annotated[str | None, typer.Option("--model", "-m", metavar="M", help=MODEL_HELP)] = None
    device: Annotated[
        str, typer.Option("--device", metavar="D", help="auto, cpu, gpu, hip:N, cuda:N or host:N.")
    ] = "auto"
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", metavar="N", help="CPU threads; one a core by default."),
    ] = None
    ctx: Annotated[
        int | None,
        typer.Option("--ctx", "-c", metavar="N", help="Tokens of a sequence; the model's most."),
    ] = None
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", metavar="N", help="Layers on the GPU, counted from the last."),
    ] = None
    require_gpu: Annotated[
        bool, typer.Option("--require-gpu", help="Fail if any layer would run on the CPU.")
    ] = False
    kv_dtype: Annotated[
        str, typer.Option("--kv-dtype", metavar="T", help="f16, bf16, q8_0 or f32: the KV cache.")
    ] = "f16"
    memory_fraction: Annotated[
        float | None,
        typer.Option(
            "--memory-fraction", metavar="X", help="Of free memory: the KV cache; on a GPU, all."
        ),
    ] = None
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Bit-equal results whatever runs beside a request."),
    ] = False


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Adds --debug to `function` and unfolds a parameter of type ModelOptions into its options.

    --debug is read by cli.main, before any command is known; here it is only let through.
    """
    parameters: dict[str, inspect.Parameter] = {}
    grouped: str | None = None
    # Not get_type_hints(): in Python 3.10 it hides an Annotated whose default is None in an Optional.
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.annotation is ModelOptions:
            grouped = parameter.name
            parameters.update(_model_parameters())
        else:
            parameters[parameter.name] = _parameter(
                parameter.name, parameter.annotation, parameter.default
            )
    parameters["debug"] = _parameter("debug", DebugOption, False)

    @wraps(function)
    def run(**values: Any) -> None:
        values.pop("debug")
        if grouped is not None:
            names = [field.name for field in fields(ModelOptions)]
            values[grouped] = ModelOptions(**{name: values.pop(name) for name in names})
        try:
            function(**values)
        except (KeyboardInterrupt, OSError) as error:
            raise CarriedError(error) from error

    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: p.annotation for name, p in parameters.items()}
    return run


def _model_parameters() -> dict[str, inspect.Parameter]:
    hints = get_type_hints(ModelOptions, include_extras=True)
    return {
        field.name: _parameter(field.name, hints[field.name], field.default)
        for field in fields(ModelOptions)
    }


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)
