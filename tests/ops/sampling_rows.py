"""Rows of the oracle as the arrays that the native sampler takes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from reference.sampling import Row
from rocmforge import _native


def batch_of(
    rows: Sequence[Row], vocab: int, num_logprobs: Sequence[int] | None = None
) -> SimpleNamespace:
    offsets, ids, bias, repeated, subtract = [0], [], [], [], []
    masks, mask_row = [], []
    for row in rows:
        counted = row.presence_penalty != 0 or row.frequency_penalty != 0
        earlier = set(row.prompt) | set(row.output) if row.repetition_penalty != 1 else set()
        tokens = set(row.logit_bias) | earlier | (set(row.output) if counted else set())
        for token in sorted(tokens):
            count = row.output.count(token)
            ids.append(token)
            bias.append(row.logit_bias.get(token, 0.0))
            repeated.append(token in earlier)
            subtract.append(row.presence_penalty + row.frequency_penalty * count if count else 0.0)
        offsets.append(len(ids))
        mask_row.append(-1 if row.allowed is None else len(masks))
        if row.allowed is not None:
            bits = np.zeros(-(-vocab // 32) * 32, bool)
            bits[:vocab] = row.allowed
            masks.append(np.packbits(bits, bitorder="little").view(np.uint32))
    words = -(-vocab // 32)
    return SimpleNamespace(
        temperature=np.array([row.temperature for row in rows], np.float32),
        top_k=np.array([row.top_k for row in rows], np.int32),
        top_p=np.array([row.top_p for row in rows], np.float32),
        min_p=np.array([row.min_p for row in rows], np.float32),
        repetition_penalty=np.array([row.repetition_penalty for row in rows], np.float32),
        seed=np.array([row.seed for row in rows], np.uint64),
        position=np.array([row.position for row in rows], np.int64),
        num_logprobs=np.array([-1] * len(rows) if num_logprobs is None else num_logprobs, np.int32),
        adjust_offsets=np.array(offsets, np.int32),
        adjust_ids=np.array(ids, np.int32),
        adjust_bias=np.array(bias, np.float32),
        adjust_repeated=np.array(repeated, np.uint8),
        adjust_subtract=np.array(subtract, np.float32),
        mask_row=np.array(mask_row, np.int32),
        masks=np.array(masks, np.uint32).reshape(len(masks), words),
    )


def draw(
    isa: str,
    logits: np.ndarray,
    rows: Sequence[Row],
    num_logprobs: Sequence[int] | None = None,
    threads: int = 1,
) -> SimpleNamespace:
    """Samples a copy of logits [rows, vocab]."""
    vocab = logits.shape[1]
    sampler = _native.cpu.Sampler(vocab, isa, threads)
    result = sampler.sample(
        np.array(logits, np.float32, order="C"), batch_of(rows, vocab, num_logprobs)
    )
    return SimpleNamespace(**result)
