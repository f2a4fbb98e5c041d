"""Asks llama.cpp for the logits of the tiny models of peer_cases.py and writes them down.

    python -m pip install llama-cpp-python gguf
    cd tests && python -m reference.record_peer

The keys and values of llama.cpp are kept in float32 here, as the oracle keeps its own.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

from reference.decoder import ReferenceDecoder, kl_divergences
from reference.peer_cases import CASES, PEER_ARGUMENTS, QUANTIZED, QUANTIZED_SEED, prompt
from reference.tiny_models import write_tiny_model

RECORD = Path(__file__).with_name("peer_logits.json")
POSITIONS = (1, 31, 95)
STEP = 8  # every eighth of the vocabulary is written down


def main() -> None:
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (architecture, knobs) in CASES.items():
            path = write_tiny_model(Path(folder) / f"{name}.gguf", architecture, "F32", **knobs)
            logits = peer_logits(path, **PEER_ARGUMENTS.get(name, {}))
            cases[name] = [[round(float(x), 5) for x in logits[p, ::STEP]] for p in POSITIONS]
        divergences = {
            weight_format: divergence(Path(folder) / "quantized.gguf", weight_format)
            for weight_format in QUANTIZED
        }
    record = {
        "llama-cpp-python": llama_cpp.__version__,
        "positions": POSITIONS,
        "step": STEP,
        "logits": cases,
        "mean_kl_from_float64": divergences,
    }
    RECORD.write_text(json.dumps(record) + "\n")


def divergence(path: Path, weight_format: str) -> float:
    write_tiny_model(path, "llama", weight_format, seed=QUANTIZED_SEED)
    logits = peer_logits(path)
    expected = ReferenceDecoder(path).logits(prompt(logits.shape[-1]))
    return round(float(kl_divergences(expected, logits).mean()), 7)


def peer_logits(path: Path, **arguments: float) -> np.ndarray:
    model = llama_cpp.Llama(
        str(path),
        n_ctx=0,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
        **arguments,
    )
    ids = prompt(model.n_vocab())
    model.eval(ids)
    return model.scores[: len(ids)]


if __name__ == "__main__":
    main()
