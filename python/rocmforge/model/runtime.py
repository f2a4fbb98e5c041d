"""A loaded model and one sequence, step by step: for looking at logits, without an engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError
from rocmforge.model.config import ModelConfig
from rocmforge.model.execution_plan import ExecutionPlan
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions


@dataclass(slots=True)
class _Step:
    """Tokens that follow those in the cache; blocks 0, 1, ... are the sequence's."""

    token_ids: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    slot_mapping: npt.NDArray[np.int32]
    query_start_loc: npt.NDArray[np.int32]
    seq_lens: npt.NDArray[np.int32]
    block_tables: npt.NDArray[np.int32]
    logit_rows: npt.NDArray[np.int32]


class ModelRuntime:
    """`plan` tells what runs where. Used by one thread at a time."""

    def __init__(
        self, model: str | os.PathLike[str] | None = None, options: LoadOptions | None = None
    ) -> None:
        """Raises what load_model() does."""
        loaded = load_model(model, options or LoadOptions(max_num_seqs=1))
        self.config: ModelConfig = loaded.config
        self.plan: ExecutionPlan = loaded.plan
        self._decoder: _native.Decoder = loaded.decoder
        self.position = 0  # tokens in the cache, and number of the next one

    def reset(self) -> None:
        """Begins another sequence."""
        self.position = 0

    def decode_step(self, token_id: int) -> npt.NDArray[np.float32]:
        """[vocab_size] logits after one more token.

        Raises InvalidArgumentError for an id that is none, or at the end of the context.
        """
        return self.extend([token_id])

    def extend(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[vocab_size] logits after several more tokens, in as few steps as there may be."""
        end = self.position + len(token_ids)
        if not token_ids or end > self._decoder.max_model_len:
            msg = (
                f"{len(token_ids)} tokens after {self.position}: a step takes at least one, and "
                f"the context has {self._decoder.max_model_len}"
            )
            raise InvalidArgumentError(msg)
        most = self._decoder.max_num_tokens
        handle = 0
        for start in range(0, len(token_ids), most):
            piece = np.array(token_ids[start : start + most], np.int32)
            handle = self._decoder.enqueue(self._step(piece), None)
            self.position += len(piece)
        logits: npt.NDArray[np.float32] = self._decoder.logits(handle)[0].copy()
        return logits

    def _step(self, token_ids: npt.NDArray[np.int32]) -> _Step:
        count = len(token_ids)
        positions = np.arange(self.position, self.position + count, dtype=np.int32)
        length = self.position + count
        blocks = np.arange(-(-length // self._decoder.block_size), dtype=np.int32)
        return _Step(
            token_ids=token_ids,
            positions=positions,
            slot_mapping=positions,
            query_start_loc=np.array([0, count], np.int32),
            seq_lens=np.array([length], np.int32),
            block_tables=blocks[None, :],
            logit_rows=np.array([count - 1], np.int32),
        )
