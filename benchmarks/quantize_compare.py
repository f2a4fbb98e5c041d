"""Quantizes models with this build and with llama.cpp and compares what comes out.

    python -m pip install llama-cpp-python gguf
    python benchmarks/quantize_compare.py MODEL.gguf... --text TEXT --drawn MODEL.gguf... --out RESULT.json

Both files are loaded by llama.cpp, which scores the text as perplexity_record.py says, or for the
models of --drawn, which the text is foreign to, what the model itself says at temperature 1. The
formats of all tensors are compared too. Ours may be above theirs by --bound at most, or the exit
code is 1.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp

from perplexity_record import machine, score, versions

TYPES = {
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="*", default=[])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--drawn", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--bound", type=float, default=0.01)
    parser.add_argument("--python", default=sys.executable, help="that has rocmforge")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "text": arguments.text and arguments.text.name,
        "n_ctx": arguments.ctx,
        "bound": arguments.bound,
        "machine": machine(),
        "versions": versions(),
        "models": {},
    }
    worst = 0.0
    for model in [*arguments.models, *arguments.drawn]:
        is_drawn = model in arguments.drawn
        chunks = drawn(model, arguments) if is_drawn else read(model, arguments)
        rows = report["models"][model.stem] = {}
        source = perplexity(model, chunks, arguments)
        rows["source"] = {"perplexity": source, "chunks": len(chunks), "drawn": is_drawn}
        for name in arguments.types.split(","):
            rows[name] = row = compare(model, name, chunks, arguments)
            worst = max(worst, row["over_llama_cpp"])
            print(model.stem, name, row, flush=True)
    report["worst_over_llama_cpp"] = worst
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(worst > arguments.bound)


def compare(
    model: Path, name: str, chunks: list[list[int]], arguments: argparse.Namespace
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.gguf", Path(folder) / "theirs.gguf"
        command = [arguments.python, "-m", "rocmforge", "quantize", str(model), str(ours), name]
        command += ["--json", "--threads", str(arguments.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        seconds = quantize_theirs(model, theirs, TYPES[name], arguments.threads)
        own, peer = (perplexity(path, chunks, arguments) for path in (ours, theirs))
        return {
            "perplexity": own,
            "llama_cpp": peer,
            "over_llama_cpp": round(own / peer - 1, 6),
            "seconds": json.loads(done.stdout)["seconds"],
            "llama_cpp_seconds": seconds,
            "size_bytes": ours.stat().st_size,
            "llama_cpp_size_bytes": theirs.stat().st_size,
            "formats_equal": formats(ours) == formats(theirs),
        }


def quantize_theirs(model: Path, target: Path, file_type: int, threads: int) -> float:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = file_type
    parameters.allow_requantize = True
    start = time.perf_counter()
    with quiet():
        failed = llama_cpp.llama_model_quantize(
            str(model).encode(), str(target).encode(), ctypes.byref(parameters)
        )
    if failed:
        sys.exit(f"llama.cpp does not write {target} as type {file_type}")
    return time.perf_counter() - start


def quiet() -> Any:
    from llama_cpp._utils import suppress_stdout_stderr

    return suppress_stdout_stderr(disable=False)


def opened(path: Path, arguments: argparse.Namespace) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        str(path),
        n_ctx=arguments.ctx,
        n_batch=arguments.ctx,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        logits_all=True,
        verbose=False,
    )


def read(path: Path, arguments: argparse.Namespace) -> list[list[int]]:
    """The text in chunks, each with a begin mark in place of its first token."""
    peer = opened(path, arguments)
    token_ids = peer.tokenize(arguments.text.read_bytes(), add_bos=True, special=False)
    ends = range(arguments.ctx, len(token_ids) + 1, arguments.ctx)
    chunks = [token_ids[end - arguments.ctx : end] for end in ends][: arguments.chunks]
    return [[peer.token_bos(), *chunk[1:]] for chunk in chunks]


def drawn(path: Path, arguments: argparse.Namespace) -> list[list[int]]:
    peer = opened(path, arguments)
    chunks = []
    for seed in range(arguments.chunks):
        peer.set_seed(seed)
        peer.reset()
        chunk = [peer.token_bos()]
        for token in peer.generate(chunk, temp=1.0, top_k=0, top_p=1.0, min_p=0.0):
            chunk.append(token)
            if len(chunk) == arguments.ctx:
                break
        chunks.append(chunk)
    return chunks


def perplexity(path: Path, chunks: list[list[int]], arguments: argparse.Namespace) -> float:
    peer = opened(path, arguments)

    def logits(chunk: list[int]) -> Any:
        peer.reset()
        peer.eval(chunk)
        return peer.scores[: len(chunk)].astype("f8")

    return score(chunks, logits)["perplexity"]


def formats(path: Path) -> dict[str, int]:
    return {tensor.name: int(tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}


if __name__ == "__main__":
    main()
