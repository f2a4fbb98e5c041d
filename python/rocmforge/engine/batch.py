"""The arrays of one step, as the decoder gets them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocmforge.engine._batch import assemble
from rocmforge.engine.schedule import Schedule

Int32Array = npt.NDArray[np.int32]


@dataclass(slots=True)
class Batch:
    """T tokens of S sequences, R of which want logits. All arrays are C-contiguous int32."""

    token_ids: Int32Array  # [T]; -(row + 1): the id drawn in that row of the previous step
    positions: Int32Array  # [T] index of the token in its sequence
    slot_mapping: Int32Array  # [T] block * block_size + offset; -1: write nothing
    query_start_loc: Int32Array  # [S + 1] first token of each sequence, then T
    seq_lens: Int32Array  # [S] tokens in the cache after this step
    block_tables: Int32Array  # [S, B], B the most any sequence here needs; the rest -1
    logit_rows: Int32Array  # [R] rows of T


class BatchBuilder:
    """Assembles batches in arrays that are allocated once and overwritten by the next build().

    A decoder has read them, or copied what it will read later, when its enqueue() returns.
    """

    def __init__(
        self, max_num_tokens: int, max_num_seqs: int, max_model_len: int, block_size: int
    ) -> None:
        self._block_size = block_size
        max_num_blocks = -(-max_model_len // block_size)
        self._token_ids = np.empty(max_num_tokens, np.int32)
        self._positions = np.empty(max_num_tokens, np.int32)
        self._slot_mapping = np.empty(max_num_tokens, np.int32)
        self._query_start_loc = np.empty(max_num_seqs + 1, np.int32)
        self._seq_lens = np.empty(max_num_seqs, np.int32)
        self._block_tables = np.empty(max_num_seqs * max_num_blocks, np.int32)
        self._logit_rows = np.empty(max_num_tokens, np.int32)

    def build(self, step: Schedule) -> Batch:
        """Returns views that are valid until the next build()."""
        num_seqs, num_tokens = len(step.chunks), step.num_tokens
        longest = max(chunk.start + chunk.num_tokens for chunk in step.chunks)
        width = -(-longest // self._block_size)
        assert num_tokens <= len(self._token_ids)
        assert num_seqs <= len(self._seq_lens)
        assert num_seqs * width <= len(self._block_tables)
        assemble(
            step.chunks,
            self._block_size,
            width,
            self._token_ids,
            self._positions,
            self._slot_mapping,
            self._query_start_loc,
            self._seq_lens,
            self._block_tables,
            self._logit_rows,
        )
        return Batch(
            token_ids=self._token_ids[:num_tokens],
            positions=self._positions[:num_tokens],
            slot_mapping=self._slot_mapping[:num_tokens],
            query_start_loc=self._query_start_loc[: num_seqs + 1],
            seq_lens=self._seq_lens[:num_seqs],
            block_tables=self._block_tables[: num_seqs * width].reshape(num_seqs, width),
            logit_rows=self._logit_rows[: step.num_rows],
        )
