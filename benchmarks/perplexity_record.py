"""Records llama.cpp's perplexity, and a float64 one, for the product's tests to compare with.

    python -m pip install llama-cpp-python gguf
    python benchmarks/perplexity_record.py MODEL.gguf... --text TEXT --out RECORD.json

Counts as llama.cpp's own tool does (tools/perplexity/perplexity.cpp, `perplexity`): the whole
text is tokenized with BOS in front; it is cut into chunks of `--ctx` tokens and what remains is
dropped; where the vocabulary wants BOS it replaces the first token of every chunk; each chunk is
a fresh sequence, of which only the second half is scored. That is ctx - ctx / 2 - 1 tokens a
chunk, 255 of 512. The float64 figure is that of tests/reference over the same token ids.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from reference.decoder import ReferenceDecoder, negative_log_likelihoods


def main() -> None:
    arguments = parse_arguments()
    text = arguments.text.read_bytes()
    record: dict[str, Any] = {
        "text": arguments.text.name,
        "text_sha256": hashlib.sha256(text).hexdigest(),
        "n_ctx": arguments.ctx,
        "scored_tokens_per_chunk": arguments.ctx - arguments.ctx // 2 - 1,
        "command": "python benchmarks/perplexity_record.py "
        + " ".join(Path(value).name if "/" in value else value for value in sys.argv[1:]),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "models": {},
    }
    for path in arguments.models:
        record["models"][path.stem] = measure(path, text, arguments.ctx, arguments.threads)
        print(path.stem, {k: v["perplexity"] for k, v in figures(record, path.stem).items()})
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def measure(path: Path, text: bytes, n_ctx: int, threads: int) -> dict[str, Any]:
    peer = llama_cpp.Llama(
        str(path),
        n_ctx=n_ctx,
        n_batch=n_ctx,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=True,
        verbose=False,
    )
    token_ids = peer.tokenize(text, add_bos=True, special=False)
    chunks = [
        token_ids[start : start + n_ctx] for start in range(0, len(token_ids) - n_ctx + 1, n_ctx)
    ]
    if llama_cpp.llama_vocab_get_add_bos(llama_cpp.llama_model_get_vocab(peer.model)):
        for chunk in chunks:
            chunk[0] = peer.token_bos()

    def peer_logits(chunk: list[int]) -> np.ndarray:
        peer.reset()
        peer.eval(chunk)
        return peer.scores[: len(chunk)].astype(np.float64)

    return {
        "text_tokens": len(token_ids),
        "chunks": len(chunks),
        "token_ids_sha256": hashlib.sha256(np.array(token_ids, "<i4").tobytes()).hexdigest(),
        "llama_cpp": score(chunks, peer_logits),
        "float64": score(chunks, ReferenceDecoder(path).logits),
    }


def score(chunks: list[list[int]], logits_of: Callable[[list[int]], np.ndarray]) -> dict[str, Any]:
    """Mean negative log likelihood of the second half of each chunk, and of all together."""
    means = []
    for chunk in chunks:
        first = len(chunk) // 2
        logits = logits_of(chunk)[first:-1]
        means.append(float(negative_log_likelihoods(logits, chunk[first + 1 :]).mean()))
    scored = sum(len(chunk) - len(chunk) // 2 - 1 for chunk in chunks)
    mean = sum(means) / len(means)
    return {
        "perplexity": round(math.exp(mean), 6),
        "nll_per_token": round(mean, 8),
        "tokens": scored,
        "chunk_nll_per_token": [round(value, 7) for value in means],
    }


def figures(record: dict[str, Any], model: str) -> dict[str, Any]:
    return {name: record["models"][model][name] for name in ("llama_cpp", "float64")}


def machine() -> dict[str, Any]:
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return {"cpu": sorted(models), "cores": os.cpu_count(), "platform": platform.machine()}


def versions() -> dict[str, str]:
    return {
        "llama-cpp-python": llama_cpp.__version__,
        "llama.cpp": ctypes_string(llama_cpp.llama_cpp._lib, "llama_version"),
        "llama.cpp system": llama_cpp.llama_print_system_info().decode().strip(" |\n"),
        "numpy": np.__version__,
        "gguf": importlib.metadata.version("gguf"),
        "python": platform.python_version(),
    }


def ctypes_string(library: Any, function: str) -> str:
    """Calls a function of llama.cpp that the package does not wrap: char const * (void)."""
    entry = getattr(library, function)
    entry.restype = llama_cpp.llama_cpp.ctypes.c_char_p
    return entry().decode()


if __name__ == "__main__":
    main()
