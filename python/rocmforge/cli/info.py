"""`rocmforge info`: what a file holds and where it would run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocmforge.cli.command import MODEL_HELP, JsonOption
from rocmforge.cli.failures import one_line
from rocmforge.cli.terminal import write, write_json
from rocmforge.errors import RocmForgeError, UnsupportedError

if TYPE_CHECKING:
    from rocmforge.gguf import GGUFFile, Metadata
    from rocmforge.model import ModelConfig
    from rocmforge.model.execution_plan import Placement

MAX_SHOWN_ITEMS = 8  # of an array
MAX_SHOWN_CHARS = 100  # of a value, on the screen


def info(
    model: Annotated[str | None, typer.Argument(metavar="M", help=MODEL_HELP)] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List the tensors.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Show what a file holds and what would run where.

    Its metadata, architecture, tensors and placement, without loading it.

    Arrays of more than 8 items are shown by their type and first items. The list of --tensors
    gives file, offset, type and shape (ggml's order: the length of a row first) of each tensor:
    enough to map the file. With --json it also has the model as the decoder takes it: its forward
    pass as data, and its weights under the decoder's names.
    """
    from rocmforge.gguf import GGUFFile
    from rocmforge.hub.store import located
    from rocmforge.model.decoder_index import decoder_index
    from rocmforge.model.loader import embedded_model

    with GGUFFile.open(embedded_model() if model is None else located(model)) as file:
        config, placement, problem = _plan(file)
        report: dict[str, Any] = {
            "path": str(file.path),
            "version": file.version,
            "num_files": file.num_files,
            "size_bytes": file.size_bytes,
            "metadata": {key: shown(file.metadata, key) for key in file.metadata},
            "num_tensors": len(file.tensors),
            "num_parameters": sum(tensor.num_elements for tensor in file.tensors.values()),
            "types": _types(file),
            "config": None if config is None else _plain(dataclasses.asdict(config)),
            "purpose": None if config is None else purpose(config),
            "placement": [dataclasses.asdict(placed) for placed in placement],
            "problem": problem,
        }
        if tensors:
            report["tensors"] = _tensors(file)
            try:
                report["decoder"] = None if config is None else decoder_index(file, config)
            except UnsupportedError as error:
                report["decoder"] = {"problem": str(error)}
    if json_output:
        write_json(report)
    else:
        _print(report, [dataclasses.astuple(placed) for placed in placement])


def _plan(file: GGUFFile) -> tuple[ModelConfig | None, tuple[Placement, ...], str | None]:
    """What the file means as a model, or why this build cannot run it."""
    from rocmforge.model import ModelConfig, check_tensors
    from rocmforge.model.execution_plan import plan_model
    from rocmforge.model.options import LoadOptions

    try:
        config = ModelConfig.from_gguf(file)
        check_tensors(file, config)
        return config, plan_model(file, config, LoadOptions()).placement(), None
    except RocmForgeError as error:
        return None, (), str(error)


def purpose(config: ModelConfig) -> str:
    """What the model is for."""
    most = f"texts of up to {config.context_length} tokens"
    pooling = f"pooling {config.pooling or 'mean'}"
    if not config.causal:
        return f"embeddings of {most}, {pooling}; it cannot generate text"
    if config.pooling is not None:
        return f"embeddings, {pooling}; it predicts tokens as well, in {most}"
    return f"generating text, in {most}"


def shown(metadata: Metadata, key: str) -> Any:
    """A value as plain data; a long array by its type and its first items."""
    if not metadata.is_array(key):
        return metadata[key]
    items = list(metadata[key])
    if len(items) <= MAX_SHOWN_ITEMS:
        return _plain(items)
    return {"type": metadata.type_name(key), "first": _plain(items[:MAX_SHOWN_ITEMS])}


def _plain(value: Any) -> Any:
    """NumPy numbers and enumeration members as what JSON knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return getattr(value, "value", value)


def _types(file: GGUFFile) -> dict[str, dict[str, int]]:
    totals: dict[str, dict[str, int]] = {}
    for tensor in file.tensors.values():
        total = totals.setdefault(tensor.type.name, {"num_tensors": 0, "nbytes": 0})
        total["num_tensors"] += 1
        total["nbytes"] += tensor.nbytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]["nbytes"]))


def _tensors(file: GGUFFile) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "type": tensor.type.name,
            "shape": list(tensor.shape),
            "file": str(tensor.file),
            "offset": tensor.offset,
            "nbytes": tensor.nbytes,
        }
        for tensor in file.tensors.values()
    ]


def _print(report: dict[str, Any], placement: list[tuple[str, str, str]]) -> None:
    files = "" if report["num_files"] == 1 else f" in {report['num_files']} files"
    size, count = report["size_bytes"] / 1e6, report["num_parameters"] / 1e6
    types = (f"{name} {total['nbytes'] / 1e6:.1f} MB" for name, total in report["types"].items())
    lines = [
        f"{report['path']}: GGUF version {report['version']}, {size:.1f} MB{files}",
        f"{report['num_tensors']} tensors, {count:.1f} M parameters: {', '.join(types)}",
        "",
        *(_line(key, value) for key, value in report["metadata"].items()),
        "",
    ]
    if report["purpose"] is not None:
        lines.append(f"for {report['purpose']}")
    if report["problem"] is not None:
        lines.append(f"cannot run here: {one_line(report['problem'])}")
    lines += [f"{part} on {device}: {reason}" for part, device, reason in merged(placement)]
    lines += [
        f"{tensor['offset']:>14} {tensor['type']:<8} {tensor['name']} {tensor['shape']}"
        for tensor in report.get("tensors", ())
    ]
    write("\n".join(lines) + "\n")


def _line(key: str, value: Any) -> str:
    if isinstance(value, dict):
        value = f"{value['type']} {value['first']} ..."
    text = one_line(str(value))
    cut = text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."
    return f"{one_line(key)}: {cut}"


def merged(placement: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Neighbours with the same device and reason as one line, `first to last`."""
    groups: list[tuple[str, str, str, str]] = []
    for part, device, reason in placement:
        if groups and groups[-1][2:] == (device, reason):
            groups[-1] = (groups[-1][0], part, device, reason)
        else:
            groups.append((part, part, device, reason))
    return [(a if a == b else f"{a} to {b}", d, r) for a, b, d, r in groups]
