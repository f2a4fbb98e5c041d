"""What has come of requests and steps, as events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rocmforge.engine.decoder import Decoder
from rocmforge.engine.messages import Finished, LogprobsEvent, RowsEvent
from rocmforge.engine.request import FinishReason, Request
from rocmforge.engine.schedule import ScheduledChunk
from rocmforge.model.pooling import Pooling


def finished_event(
    request: Request, reason: FinishReason, error: Exception | None, now: float
) -> Finished:
    """The last event of a request that ends now."""
    first_token_at = now if request.first_token_at is None else request.first_token_at
    started_at = first_token_at if request.started_at is None else request.started_at
    return Finished(
        request.request_id,
        reason,
        error,
        num_prompt_tokens=request.num_prompt_tokens,
        num_cached_tokens=request.num_cached_tokens,
        num_output_tokens=request.num_output_tokens,
        queue_s=started_at - request.submitted_at,
        prefill_s=first_token_at - started_at,
        decode_s=now - first_token_at,
    )


def row_event(decoder: Decoder, chunk: ScheduledChunk, handle: int) -> RowsEvent | LogprobsEvent:
    """Logits, hidden states or log-probabilities of a chunk of the step that was collected last."""
    request, rows = chunk.request, slice(chunk.first_row, chunk.first_row + chunk.num_rows)
    if request.output == "logprobs":
        # A row tells of the token after it; of the one after the last nothing is known.
        targets = request.token_ids[chunk.start + 1 : chunk.start + 1 + chunk.num_rows]
        logits = decoder.logits(handle)[rows][: len(targets)]
        found = logprobs_of_rows(logits, targets, request.num_logprobs or 0)
        return LogprobsEvent(request.request_id, chunk.start + 1, found)
    if request.pooling is not None:
        pooled = _pooled(decoder.hidden(handle)[rows], chunk, request.pooling)
        return RowsEvent(request.request_id, chunk.start, pooled)
    wanted = decoder.logits(handle) if request.output == "logits" else decoder.hidden(handle)
    return RowsEvent(request.request_id, chunk.start, wanted[rows].copy())


def _pooled(
    rows: npt.NDArray[np.float32], chunk: ScheduledChunk, pooling: Pooling
) -> npt.NDArray[np.float32]:
    """What a chunk's hidden states [n, width] add to the sum over the text: [1 or 0, width]."""
    if pooling == "mean":
        sums: npt.NDArray[np.float64] = rows.sum(axis=0, dtype=np.float64)
        return sums.astype(np.float32)[None, :]
    at = 0 if pooling == "cls" else chunk.request.num_prompt_tokens - 1
    return np.array(rows[at - chunk.start :][:1] if at >= chunk.start else rows[:0])


def logprobs_of_rows(
    rows: npt.NDArray[np.float32], targets: Sequence[int], num_top: int
) -> list[dict[int, float]]:
    """For each row of logits [n, vocab_size]: of its target and of the `num_top` likeliest tokens.

    Equally likely ones come by their ids, as the sampler has them.
    """
    found = []
    for row, target in zip(rows, targets, strict=True):
        highest = float(row.max())
        total = highest + float(np.log(np.exp(row - highest).sum(dtype=np.float64)))
        logprobs = {target: float(row[target]) - total}
        if num_top:
            num_top = min(num_top, len(row))
            lowest = np.partition(row, -num_top)[-num_top]
            candidates = np.flatnonzero(row >= lowest)
            best = candidates[np.argsort(-row[candidates], kind="stable")][:num_top]
            logprobs.update((int(i), float(row[i]) - total) for i in best)
        found.append(logprobs)
    return found
