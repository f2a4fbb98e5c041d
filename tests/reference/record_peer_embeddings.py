"""Asks llama.cpp for what it makes of texts with the tiny models of EMBEDDING_CASES.

python -m pip install llama-cpp-python gguf
cd tests && python -m reference.record_peer_embeddings
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np

from reference.peer_cases import EMBEDDING_CASES, prompt
from reference.tiny_models import write_tiny_model

RECORD = Path(__file__).with_name("peer_embeddings.json")
POSITIONS = (0, 1, 31, 95)
LENGTHS = (96, 1, 17)  # of the texts that go in one batch
KINDS = {
    "mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama_cpp.LLAMA_POOLING_TYPE_CLS,
    "last": llama_cpp.LLAMA_POOLING_TYPE_LAST,
}


class _OfTokens(llama_cpp.Llama):  # type: ignore[misc]
    """Takes a text of numbers for its tokens."""

    def tokenize(self, text: bytes) -> list[int]:
        return [int(number) for number in text.split()]


def main() -> None:
    hidden, pooled = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (architecture, knobs) in EMBEDDING_CASES.items():
            path = write_tiny_model(Path(folder) / f"{name}.gguf", architecture, "F32", **knobs)
            rows = embeddings(path, LENGTHS[:1], llama_cpp.LLAMA_POOLING_TYPE_NONE)[0]
            hidden[name] = _rounded(rows[list(POSITIONS)])
            if name == architecture:
                pooled[name] = {
                    kind: _rounded(embeddings(path, LENGTHS, number))
                    for kind, number in KINDS.items()
                }
    record = {
        "llama-cpp-python": llama_cpp.__version__,
        "positions": POSITIONS,
        "lengths": LENGTHS,
        "hidden": hidden,
        "pooled": pooled,
    }
    RECORD.write_text(json.dumps(record) + "\n")


def embeddings(path: Path, lengths: tuple[int, ...], pooling: int) -> np.ndarray:
    """[texts, dim], or [texts, tokens, dim] without pooling."""
    model = _OfTokens(
        str(path),
        n_ctx=256,
        n_batch=256,
        n_ubatch=256,
        embedding=True,
        pooling_type=pooling,
        verbose=False,
    )
    texts = [" ".join(map(str, prompt(model.n_vocab(), length))) for length in lengths]
    return np.array(model.embed(texts))


def _rounded(x: np.ndarray) -> object:
    return np.round(x.astype(np.float64), 5).tolist()


if __name__ == "__main__":
    main()
