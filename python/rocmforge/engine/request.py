"""The state of one request, from arrival to its last token."""

from __future__ import annotations

import enum
import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rocmforge.engine.sampling import SamplerState
    from rocmforge.model.pooling import Pooling

FinishReason = Literal["stop", "length", "cancelled", "error"]

# What a request asks the decoder for: sampled tokens, the logits of every prompt token,
# the final-normed hidden state of every prompt token (or these pooled), or log-probabilities of the prompt's tokens.
OutputKind = Literal["tokens", "logits", "hidden", "logprobs"]


class RequestState(enum.Enum):
    """Where a request stands. The last three are final."""

    WAITING = "waiting"  # not admitted yet, or preempted
    RUNNING = "running"
    FINISHED = "finished"  # by a stop condition or a length limit
    CANCELLED = "cancelled"
    FAILED = "failed"


FINAL_STATE: dict[FinishReason, RequestState] = {
    "stop": RequestState.FINISHED,
    "length": RequestState.FINISHED,
    "cancelled": RequestState.CANCELLED,
    "error": RequestState.FAILED,
}

_LEGAL_MOVES = {
    RequestState.WAITING: frozenset({RequestState.RUNNING, *FINAL_STATE.values()}),
    RequestState.RUNNING: frozenset({RequestState.WAITING, *FINAL_STATE.values()}),
    RequestState.FINISHED: frozenset[RequestState](),
    RequestState.CANCELLED: frozenset[RequestState](),
    RequestState.FAILED: frozenset[RequestState](),
}


@dataclass(eq=False, slots=True)
class Request:
    """One sequence.

    Tokens pass three marks: known (in `token_ids`), scheduled (sent to the decoder) and computed
    (their keys and values are in the KV cache, the step having been collected). Without
    lookahead the last two are equal between steps. With lookahead a request may be scheduled
    beyond what is known: `num_unknown_tokens` ids have been drawn by steps not yet collected.

        num_computed_tokens <= num_scheduled_tokens <= len(token_ids) + num_unknown_tokens
    """

    request_id: int
    token_ids: array[int]  # int32: the prompt, then the output as it becomes known
    num_prompt_tokens: int
    max_num_tokens: int  # prompt and output together
    output: OutputKind = "tokens"
    sampler: SamplerState | None = None  # set for "tokens"
    num_logprobs: int | None = None  # likeliest tokens reported with each one; None: nothing
    pooling: Pooling | None = None  # of hidden states
    namespace: str = ""  # prefixes are shared inside a namespace only
    stop_token_ids: frozenset[int] = frozenset()

    start_before: float = math.inf  # by the engine's clock; ends if it has had no step by then
    submitted_at: float = 0.0  # by the engine's clock, as the two below
    started_at: float | None = None  # its first step
    first_token_at: float | None = None
    arrival: int = 0  # rank in the scheduler's order of service
    state: RequestState = RequestState.WAITING
    finish_reason: FinishReason | None = None
    num_computed_tokens: int = 0
    num_scheduled_tokens: int = 0
    num_unknown_tokens: int = 0
    num_in_flight_steps: int = 0  # enqueued steps with tokens of this request, not yet collected
    last_row: int = -1  # logit row of its latest draw, in the step that drew it
    was_admitted: bool = False
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache at first admission

    block_table: array[int] = field(default_factory=lambda: array("i"))
    block_digests: list[bytes] = field(default_factory=list)  # of full blocks of known tokens
    chain_parent: int | str | None = None  # cache entry the next published block extends
    num_published_blocks: int = 0  # leading blocks offered to the prefix cache

    @property
    def wants_rows(self) -> bool:
        return self.output != "tokens"

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :].tolist()

    @property
    def num_pending_tokens(self) -> int:
        """Tokens the decoder has still to be sent.

        A draw that is still unknown but is sure to be the last needs no step of its own.
        """
        num_tokens = len(self.token_ids) + self.num_unknown_tokens
        if self.num_unknown_tokens and num_tokens >= self.max_num_tokens:
            return 0
        return num_tokens - self.num_scheduled_tokens

    def move_to(self, state: RequestState) -> None:
        assert state in _LEGAL_MOVES[self.state], (self.request_id, self.state, state)
        self.state = state
