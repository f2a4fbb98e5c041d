"""A loaded model and one sequence, step by step: for looking at logits, without an engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rocmforge import _native
from rocmforge.errors import InvalidArgumentError, ModelFileError
from rocmforge.model.config import ModelConfig
from rocmforge.model.execution_plan import ExecutionPlan
from rocmforge.model.fingerprint import fingerprint
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions
from rocmforge.model.own_process import OwnProcess
from rocmforge.model.session_file import SessionHeader, opened_session, write_session


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


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a saved sequence."""

    num_tokens: int
    num_recomputed: int  # of them
    note: str | None  # why any had to be


class ModelRuntime:
    """`plan` tells what runs where. Used by one thread at a time."""

    def __init__(
        self, model: str | os.PathLike[str] | None = None, options: LoadOptions | None = None
    ) -> None:
        """Raises what load_model() does."""
        options = options or LoadOptions(max_num_seqs=1)
        self._process = OwnProcess()
        loaded = load_model(model, options)
        self.config: ModelConfig = loaded.config
        self.plan: ExecutionPlan = loaded.plan
        self._decoder: _native.Decoder = loaded.decoder
        self._fingerprint = fingerprint(loaded.file, loaded.config, loaded.plan, options)
        self._token_ids: list[int] = []

    @property
    def position(self) -> int:
        """Tokens in the cache, and number of the next one."""
        return len(self._token_ids)

    @property
    def token_ids(self) -> list[int]:
        """Those in the cache."""
        return list(self._token_ids)

    def reset(self) -> None:
        """Begins another sequence."""
        self._token_ids = []

    def decode_step(self, token_id: int) -> npt.NDArray[np.float32]:
        """[vocab_size] logits after one more token.

        Raises InvalidArgumentError for an id that is none, or at the end of the context.
        """
        return self.extend([token_id])

    def extend(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[vocab_size] logits after several more tokens, in as few steps as there may be."""
        self._process.check()
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
            self._token_ids += piece.tolist()
        logits: npt.NDArray[np.float32] = self._decoder.logits(handle)[0].copy()
        return logits

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the sequence with its keys and values to a file, which it replaces.

        Raises InvalidArgumentError if there is nothing to save or no file is to be replaced, and
        OSError.
        """
        if not self._token_ids:
            msg = "there is no sequence to save: no token has been computed"
            raise InvalidArgumentError(msg)
        header = self._header(self.position)
        blocks = (self._decoder.read_kv(block) for block in range(header.num_blocks))
        write_session(Path(path), header, np.array(self._token_ids, np.int32), blocks)

    def restore(self, path: str | os.PathLike[str]) -> Restored:
        """Takes up a saved sequence in place of this one; the next step goes on behind it.

        Where the file is of another model or other options, or damaged, tokens are computed again
        instead, and the note says so. Raises ModelFileError for what is no saved session,
        InvalidArgumentError for one that does not fit, and OSError; this sequence then stays.
        """
        with opened_session(Path(path), self._decoder.max_model_len) as saved:
            ids = saved.token_ids.tolist()
            if not 0 <= min(ids) <= max(ids) < self._decoder.vocab_size:
                msg = f"{path}: a token is outside [0, {self._decoder.vocab_size})"
                raise ModelFileError(msg)
            self.reset()
            note = None
            if saved.header != self._header(len(ids)):
                note = "it was saved by another model, version or with other options"
            else:
                num_blocks = 0
                for num_blocks, block in enumerate(saved.blocks(), start=1):
                    self._decoder.write_kv(num_blocks - 1, block)
                self._token_ids = ids[: num_blocks * self._decoder.block_size]
                if num_blocks < saved.header.num_blocks:
                    note = f"block {num_blocks} of its keys and values is damaged"
        missing = ids[self.position :]
        if missing:
            self.extend(missing)
        return Restored(len(ids), len(missing), note)

    def _header(self, num_tokens: int) -> SessionHeader:
        decoder = self._decoder
        return SessionHeader(
            self._fingerprint, decoder.block_size, decoder.kv_block_bytes, num_tokens
        )

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
