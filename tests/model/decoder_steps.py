"""Runs one sequence through a loaded model step by step, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions


def step_of(ids: Sequence[int], block_size: int = 16) -> SimpleNamespace:
    """A batch of one sequence from its beginning, its blocks in order, every row wanted."""
    token_ids = np.asarray(ids, np.int32)
    size = len(token_ids)
    positions = np.arange(size, dtype=np.int32)
    return SimpleNamespace(
        token_ids=token_ids,
        positions=positions,
        slot_mapping=positions,
        query_start_loc=np.array([0, size], np.int32),
        seq_lens=np.array([size], np.int32),
        block_tables=np.arange(-(-size // block_size), dtype=np.int32)[None, :],
        logit_rows=positions,
    )


def hidden_states(path: Path, texts: Sequence[Sequence[int]], **options: Any) -> list[np.ndarray]:
    """Returns float32 (len(text), dim) for each of several texts that go in one step on the CPU."""
    lengths = [len(text) for text in texts]
    size = options.setdefault("block_size", 16)
    usual = {
        "device": "cpu",
        "threads": 1,
        "max_num_seqs": len(texts),
        "max_num_tokens": sum(lengths),
    }
    decoder = load_model(path, LoadOptions(**(usual | options))).decoder
    widest = -(-max(lengths) // size)
    num_blocks = [-(-length // size) for length in lengths]
    blocks = np.random.default_rng(0).permutation(sum(num_blocks)).astype(np.int32)
    tables = np.full((len(texts), widest), -1, np.int32)
    slots = []
    for row, (count, length) in enumerate(zip(num_blocks, lengths, strict=True)):
        tables[row, :count], blocks = blocks[:count], blocks[count:]
        positions = np.arange(length)
        slots.append(tables[row, positions // size] * size + positions % size)
    batch = SimpleNamespace(
        token_ids=np.concatenate(texts).astype(np.int32),
        positions=np.concatenate([np.arange(length) for length in lengths]).astype(np.int32),
        slot_mapping=np.concatenate(slots).astype(np.int32),
        query_start_loc=np.cumsum([0, *lengths]).astype(np.int32),
        seq_lens=np.array(lengths, np.int32),
        block_tables=tables,
        logit_rows=np.arange(sum(lengths), dtype=np.int32),
    )
    rows = decoder.hidden(decoder.enqueue(batch, None)).copy()
    return np.split(rows, np.cumsum(lengths)[:-1])


def teacher_forced(
    path: Path, ids: Sequence[int], *, step_sizes: Sequence[int] | None = None, **options: Any
) -> np.ndarray:
    """Returns float32 logits (len(ids), vocab) of a model, on the CPU unless `device` says otherwise.

    The tokens go in one step, or in steps of the given sizes; the blocks of the cache are
    taken in a scattered order, so that a wrong block table cannot go unseen.
    """
    ids = np.asarray(ids, np.int32)
    step_sizes = step_sizes or [len(ids)]
    block_size = options.setdefault("block_size", 16)
    usual = {"device": "cpu", "threads": 1, "max_num_seqs": 2, "max_num_tokens": max(step_sizes)}
    decoder = load_model(path, LoadOptions(**(usual | options))).decoder
    num_blocks = -(-len(ids) // block_size)
    blocks = np.random.default_rng(0).permutation(num_blocks).astype(np.int32)
    rows = []
    start = 0
    for size in step_sizes:
        positions = np.arange(start, start + size, dtype=np.int32)
        batch = SimpleNamespace(
            token_ids=ids[positions],
            positions=positions,
            slot_mapping=blocks[positions // block_size] * block_size + positions % block_size,
            query_start_loc=np.array([0, size], np.int32),
            seq_lens=np.array([start + size], np.int32),
            block_tables=blocks[None, :],
            logit_rows=np.arange(size, dtype=np.int32),
        )
        rows.append(decoder.logits(decoder.enqueue(batch, None)).copy())
        start += size
    return np.concatenate(rows)
