"""`rocmforge quantize`: a model file in other weight formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocmforge.cli.command import JsonOption
from rocmforge.cli.terminal import note, progress, write, write_json
from rocmforge.errors import InvalidArgumentError

if TYPE_CHECKING:
    from rocmforge.model.quantize import QuantizePlan

MAX_THREADS = 1024


def quantize(
    source: Annotated[
        str,
        typer.Argument(metavar="IN", help="A .gguf file (of several the first), or a pulled name."),
    ],
    target: Annotated[str, typer.Argument(metavar="OUT", help="The file to write.")],
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="Such as Q4_K_M; see above.")],
    imatrix: Annotated[
        str | None,
        typer.Option("--imatrix", metavar="FILE", help="Importance matrix, as llama.cpp writes."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", metavar="N", help="CPU threads; one a core by default."),
    ] = None,
    pure: Annotated[
        bool, typer.Option("--pure", help="All matrices in the format itself, without a mix.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how large the file would be, write none.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Convert a model between weight formats.

    TYPE is one of F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1,
    Q4_0, IQ4_NL, IQ4_XS, MXFP4 (experts; the rest Q8_0), Q3_K_L, Q3_K_M, Q3_K_S, Q2_K, Q2_K_S.
    Scales are searched for the least squared error, weighted by the importance matrix if there is
    one. The file appears under its name when it is complete.
    """
    from rocmforge.gguf import GGUFFile
    from rocmforge.hub.store import located
    from rocmforge.model.importance import read_importance
    from rocmforge.model.quantize import Quantization

    if threads is not None and not 1 <= threads <= MAX_THREADS:
        msg = f"--threads is {threads}; it must be from 1 to {MAX_THREADS}"
        raise InvalidArgumentError(msg)
    with GGUFFile.open(located(source)) as file:
        importance = None if imatrix is None else read_importance(imatrix)
        job = Quantization(file, type_name, importance, pure)
        plan = job.plan()
        _warn(plan)
        seconds = None
        if not dry_run:
            with progress(f"writing {target}", job.progress.text):
                seconds = job.write(target, threads)
    if json_output:
        write_json(_report(source, target, plan, seconds))
    else:
        _print(target, plan, seconds)


def _warn(plan: QuantizePlan) -> None:
    if plan.requantized:
        note(
            f"{len(plan.requantized)} matrices have been quantized before, and lose more than from "
            "a file in F16, BF16 or F32"
        )
    if plan.unweighted:
        note(f"the importance matrix lacks {', '.join(plan.unweighted[:4])}; they go without")


def _report(source: str, target: str, plan: QuantizePlan, seconds: float | None) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "type": plan.type_name,
        "source_bytes": plan.source_bytes,
        "size_bytes": plan.size_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "bytes_by_format": plan.bytes_by_format,
        "requantized": len(plan.requantized),
        "seconds": seconds,
    }


def _print(target: str, plan: QuantizePlan, seconds: float | None) -> None:
    formats = ", ".join(f"{n} {size / 1e6:.1f} MB" for n, size in plan.bytes_by_format.items())
    would = "would have" if seconds is None else "has"
    took = "" if seconds is None else f", written in {seconds:.1f} s"
    write(
        f"{target} {would} {plan.size_bytes / 1e6:.1f} MB, {plan.bits_per_weight:.2f} bits a "
        f"weight ({plan.source_bytes / 1e6:.1f} MB before{took}): {formats}\n"
    )
