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

from reference.peer_cases import CASES, prompt
from reference.tiny_models import write_tiny_model

RECORD = Path(__file__).with_name("peer_logits.json")
POSITIONS = (1, 31, 95)
STEP = 8  # every eighth of the vocabulary is written down


def main() -> None:
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (architecture, knobs) in CASES.items():
            path = write_tiny_model(Path(folder) / f"{name}.gguf", architecture, "F32", **knobs)
            logits = peer_logits(path)
            cases[name] = [[round(float(x), 5) for x in logits[p, ::STEP]] for p in POSITIONS]
    record = {
        "llama-cpp-python": llama_cpp.__version__,
        "positions": POSITIONS,
        "step": STEP,
        "logits": cases,
    }
    RECORD.write_text(json.dumps(record) + "\n")


def peer_logits(path: Path) -> np.ndarray:
    model = llama_cpp.Llama(
        str(path),
        n_ctx=0,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    ids = prompt(model.n_vocab())
    model.eval(ids)
    return model.scores[: len(ids)]


if __name__ == "__main__":
    main()
