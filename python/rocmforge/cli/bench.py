"""`rocmforge bench`: how fast a model runs here, and how near that is to the memory's limit."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Annotated

import typer

from rocmforge.cli.command import JsonOption, ModelOptions
from rocmforge.cli.loading import model_name
from rocmforge.cli.terminal import note, progress, write, write_json
from rocmforge.errors import InvalidArgumentError

if TYPE_CHECKING:
    from rocmforge.cli.bench_runs import Case, Result
    from rocmforge.engine.config import EngineConfig
    from rocmforge.model.loader import LoadedModel

MIN_BANDWIDTH_BYTES = 512 << 20


def bench(
    load: ModelOptions,
    prompt: Annotated[
        int, typer.Option("-p", metavar="N", help="Tokens of the prompt; 0 leaves it out.", min=0)
    ] = 512,
    output: Annotated[
        int, typer.Option("-n", metavar="N", help="Tokens to decode; 0 leaves it out.", min=0)
    ] = 128,
    depth: Annotated[
        str, typer.Option("-d", metavar="N,...", help="Tokens before those decoded.")
    ] = "0",
    batch: Annotated[
        str, typer.Option("-b", metavar="N,...", help="Sequences that decode together.")
    ] = "1,4,16",
    repetitions: Annotated[
        int, typer.Option("-r", metavar="N", help="Runs of each test.", min=1, max=1000)
    ] = 5,
    json_output: JsonOption = False,
) -> None:
    """Time prompts and decoding.

    Told are median tokens per second, and bytes read per second.

    The fraction is of the bandwidth measured in the same run on a buffer of the model's size, 512
    MiB at least: that of reads on the CPU, of copies (bytes read and written) on a GPU.
    """
    from rocmforge.cli.bench_runs import Bench, cases

    tests = cases(prompt, output, _numbers("-d", depth, 0), _numbers("-b", batch, 1))
    if not tests:
        msg = "-p and -n are both 0: nothing is left to time"
        raise InvalidArgumentError(msg)
    config = _config(load, tests)
    from rocmforge.model.load_progress import LoadProgress
    from rocmforge.model.loader import load_model

    loading = LoadProgress()
    with progress(f"loading {model_name(load.model)}", loading.text):
        model = load_model(load.model, config.load_options(), loading)
    runs = Bench(model, config.scheduler_config(model.decoder.max_num_tokens))
    results = [runs.run(test, repetitions, note) for test in tests]
    _report(model, results, json_output)


def _report(model: LoadedModel, results: list[Result], json_output: bool) -> None:
    from rocmforge import _native

    decoder = model.decoder
    parts = [placed for placed in model.placement if placed.part != "sampling"]
    device = "+".join(dict.fromkeys(placed.device for placed in parts))
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = max(MIN_BANDWIDTH_BYTES, decoder.weight_bytes)
    gpus = [name for name in device.split("+") if name != "cpu"]
    measured = f"copies on {gpus[0]}" if gpus else "reads on the CPU"
    note(f"measuring the bandwidth of {measured}")
    if gpus:
        driver, ordinal = gpus[0].split(":")
        bandwidth = _native.gpu.copy_bandwidth(driver, int(ordinal), size)
    else:
        bandwidth = _native.cpu.read_bandwidth(decoder.num_threads, size)
    rows = [
        {
            "test": result.case.name,
            "tokens_per_s": result.median,
            "min": min(result.rates),
            "max": max(result.rates),
            "bytes_per_s": result.bytes_per_s,
            "fraction_of_read_bandwidth": result.bytes_per_s / bandwidth,
        }
        for result in results
    ]
    if json_output:
        write_json(
            {
                "model": model.config.name,
                "device": device,
                "isa": _native.cpu.isa(),
                "threads": decoder.num_threads,
                "results": rows,
                "load_s": model.load_s,
                "peak_rss_bytes": peak_rss,
                "read_bandwidth_bytes_per_s": bandwidth,
                "bandwidth_of": measured,
            }
        )
        return
    write(
        f"{model.config.name} on {device} ({_native.cpu.isa()}, {decoder.num_threads} threads), "
        f"loaded in {model.load_s:.2f} s, peak {peak_rss / 2**20:.0f} MiB, "
        f"{measured}: {bandwidth / 1e9:.1f} GB/s\n\n"
    )
    write(f"{'test':<14}{'tokens/s':>12}{'min':>12}{'max':>12}{'GB/s':>10}{'of limit':>10}\n")
    for row, result in zip(rows, results, strict=True):
        rates = (result.median, min(result.rates), max(result.rates))
        figures = "".join(f"{rate:>12.1f}" for rate in rates)
        share = result.bytes_per_s / bandwidth
        write(f"{row['test']:<14}{figures}{result.bytes_per_s / 1e9:>10.2f}{share:>10.1%}\n")


def _config(load: ModelOptions, tests: list[Case]) -> EngineConfig:
    """A cache that holds what the tests need, so that none is slowed by preemption."""
    from rocmforge.engine.config import EngineConfig

    needed = max(test.num_tokens for test in tests)
    if load.ctx is not None and load.ctx < needed:
        msg = f"the tests need a context of {needed} tokens; --ctx is {load.ctx}"
        raise InvalidArgumentError(msg)
    return EngineConfig(
        device=load.device,
        threads=load.threads,
        max_model_len=needed if load.ctx is None else load.ctx,
        gpu_layers=load.gpu_layers,
        require_gpu=load.require_gpu,
        kv_dtype=load.kv_dtype,
        memory_fraction=load.memory_fraction,
        max_num_seqs=max(test.num_sequences for test in tests),
        deterministic=load.deterministic,
    )


def _numbers(option: str, text: str, least: int) -> list[int]:
    """`1,4,16` as numbers of at least `least`."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= least for part in parts):
        msg = f"{option} is {text!r}; it is a list of numbers from {least} up, such as 1,4,16"
        raise InvalidArgumentError(msg)
    return [int(part) for part in parts]
