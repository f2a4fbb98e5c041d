"""Both engines compute the same model, or nothing is timed."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from side_by_side.client import Worker

PROMPT_TOKENS = 48
OUTPUT_TOKENS = 8
SMALLEST_VOCABULARY = 1000
# Both round the activations, to 8 bits or to bfloat16; what differs by more is another model.
MAX_RMS_DIFFERENCE = 0.15  # of the logits, over their standard deviation
MAX_BEHIND_BEST = 0.75  # of a drawn token by the other's logits, in the same unit


class DisagreementError(Exception):
    """The engines do not compute the same."""


def check_agreement(rocmforge: Worker, llama_cpp: Worker) -> dict[str, float]:
    """How far apart the logits are; both workers have drawn a first token.

    ROCmForge draws eight tokens greedily, and llama.cpp says how good each of them is. Raises
    DisagreementError.
    """
    rng = np.random.default_rng(1)
    prompt = rng.integers(0, SMALLEST_VOCABULARY, PROMPT_TOKENS).tolist()
    ours = rocmforge.ask("logits", prompt=prompt, num_output=OUTPUT_TOKENS)
    tokens = ours["token_ids"]
    theirs = _floats(llama_cpp.ask("logits", prompt=prompt, output=tokens[:-1]))
    return compare(_floats(ours), theirs.reshape(len(tokens), -1), tokens)


def compare(ours: np.ndarray, theirs: np.ndarray, tokens: list[int]) -> dict[str, float]:
    """`ours` [vocab] after the prompt; `theirs` [len(tokens), vocab], from the prompt on."""
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        message = "logits are not finite"
        raise DisagreementError(message)
    spread = float(theirs.std())
    drawn = theirs[np.arange(len(tokens)), tokens]
    result = {
        "logits_std": spread,
        "rms_difference_over_std": float(np.sqrt(np.mean((ours - theirs[0]) ** 2))) / spread,
        "most_behind_best_over_std": float((theirs.max(axis=1) - drawn).max()) / spread,
        "same_greedy_tokens": float((theirs.argmax(axis=1) == tokens).mean()),
    }
    if (
        result["rms_difference_over_std"] > MAX_RMS_DIFFERENCE
        or result["most_behind_best_over_std"] > MAX_BEHIND_BEST
    ):
        message = f"the engines do not agree on this model: {result}"
        raise DisagreementError(message)
    return result


def _floats(answer: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer["logits"]), "<f4").astype(np.float64)
