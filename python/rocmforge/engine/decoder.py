"""What the engine asks of a loaded model on its device."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from rocmforge.engine.batch import Batch
from rocmforge.engine.sampling import SamplingBatch


class StepOutput(Protocol):
    """What a step drew, one entry per row of the batch's `logit_rows`."""

    @property
    def token_ids(self) -> npt.NDArray[np.int32]:
        """[R], or [0] if nothing was drawn; -1 where the row's logits allow no draw."""

    @property
    def logprobs(self) -> npt.NDArray[np.float32]:
        """[R] natural logarithm of the probability of the token drawn."""

    @property
    def top_ids(self) -> npt.NDArray[np.int32] | None:
        """[R, K] likeliest tokens, best first, -1 behind the last; None if no row asked."""

    @property
    def top_logprobs(self) -> npt.NDArray[np.float32] | None:
        """[R, K] of `top_ids`."""


def logprobs_of(output: StepOutput, row: int, token_id: int, num_top: int) -> dict[int, float]:
    """Of the token drawn and the `num_top` likeliest."""
    logprobs = {token_id: float(output.logprobs[row])}
    if num_top and output.top_ids is not None and output.top_logprobs is not None:
        top = zip(output.top_ids[row, :num_top], output.top_logprobs[row, :num_top], strict=True)
        logprobs.update((int(i), float(p)) for i, p in top if i >= 0)
    return logprobs


class Decoder(Protocol):
    """One step at a time, in order, from one thread.

    With `lookahead` 0 a step is finished when enqueue() returns. With `lookahead` 1 the engine
    enqueues a step before it collects the one before: token ids it does not know yet come as
    -(row + 1), "the id drawn in that row of the previous step" (any valid id if none could be), a
    request that ended in the previous step is dropped one step late, and no block of an
    uncollected step changes hands.

    An exception is the end of the decoder, except a MemoryError, which says that this step did not
    happen and that the next one may.
    """

    @property
    def progress(self) -> int:
        """A number that changes while a step gets on; for any thread, at any time."""

    @property
    def num_replays(self) -> int:
        """Steps that a GPU replayed instead of launching them kernel by kernel; for any thread."""

    @property
    def recording_problem(self) -> str | None:
        """Why a GPU's steps are not recorded any more, if so; for any thread."""

    @property
    def is_causal(self) -> bool:
        """Else tokens see those after them: steps have whole sequences, for their hidden states."""

    @property
    def lookahead(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def max_num_tokens(self) -> int: ...
    @property
    def max_num_seqs(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...

    def enqueue(self, batch: Batch, sampling: SamplingBatch | None) -> int:
        """Starts a step and returns its handle; the arrays are read before it returns.

        `sampling` has one entry per logit row. It is None for a step without logit rows and for
        one whose logits() or hidden() are wanted instead of draws.
        """

    def collect(self, handle: int) -> StepOutput:
        """Waits for a step, oldest first. The arrays are valid until the next collect()."""

    def logits(self, handle: int) -> npt.NDArray[np.float32]:
        """[R, vocab_size] view of the step's logits, valid until the next enqueue()."""

    def hidden(self, handle: int) -> npt.NDArray[np.float32]:
        """[R, hidden_size] view of the final-normed rows, valid until the next enqueue()."""
