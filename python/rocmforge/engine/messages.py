"""What passes between the engine and those who ask: plain data, whatever carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from rocmforge.engine.request import FinishReason, OutputKind

if TYPE_CHECKING:
    from rocmforge.engine.config import EngineConfig
    from rocmforge.engine.sampling import SamplingParams
    from rocmforge.engine.stats import EngineStats
    from rocmforge.model.pooling import Pooling


@dataclass(frozen=True, slots=True)
class Submit:
    """A new request. `request_id` is the sender's, unique among its live requests.

    `seed` is used by requests whose `params` have none.
    """

    request_id: int
    prompt_token_ids: Sequence[int]
    params: SamplingParams | None  # None for outputs other than "tokens"
    seed: int = 0
    output: OutputKind = "tokens"
    namespace: str = ""
    stop_token_ids: frozenset[int] = frozenset()
    max_wait_s: float | None = None  # for its first step; then it ends with UnavailableError
    num_logprobs: int = 0  # likeliest tokens reported with each, for the output "logprobs"
    pooling: Pooling | None = None  # of the output "hidden" into one row; None: a row a token


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ends a request; one that is unknown or has ended is left alone.

    `reason` is "stop" where the receiver of the tokens has found a stop string in their text.
    """

    request_id: int
    reason: Literal["cancelled", "stop"] = "cancelled"


# Events are not frozen: making a frozen dataclass costs three times as much, and the engine
# makes one a token.


@dataclass(slots=True)
class TokenEvent:
    request_id: int
    token_id: int
    logprobs: dict[int, float] | None  # of the token and the likeliest ones, if asked for


@dataclass(slots=True)
class RowsEvent:
    """Logits or hidden states of prompt tokens, from position `start` onwards.

    With pooling it is the step's part of a sum over the text: a row, or none. A request that was
    preempted begins again at 0.
    """

    request_id: int
    start: int
    rows: npt.NDArray[np.float32]  # [n, vocab_size or hidden_size]


@dataclass(slots=True)
class LogprobsEvent:
    """Of prompt tokens, from position `start` onwards, each given all before it."""

    request_id: int
    start: int
    logprobs: list[dict[int, float]]  # of the token and the likeliest ones


@dataclass(slots=True)
class Finished:
    """The last event of a request."""

    request_id: int
    reason: FinishReason
    error: Exception | None
    num_prompt_tokens: int
    num_cached_tokens: int  # prompt tokens that did not have to be computed
    num_output_tokens: int
    queue_s: float = 0.0  # to its first step
    prefill_s: float = 0.0  # from there to its first token
    decode_s: float = 0.0  # from there to its end


Event = TokenEvent | RowsEvent | LogprobsEvent | Finished


# What follows passes only between an engine in a process of its own and the one that started it.


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to the engine's process."""

    model: str | None  # path of a GGUF file; None for the embedded model
    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model runs, and requests are taken."""

    name: str
    placement: list[tuple[str, str, str]]  # (part, device, reason)
    num_fallbacks: int  # parts on the CPU although nobody asked for that
    load_s: float
    max_model_len: int
    vocab_size: int  # width of the logits
    hidden_size: int
    pooling: Pooling = "mean"  # of embeddings
    is_causal: bool = True  # else it makes embeddings alone


@dataclass(frozen=True, slots=True)
class LoadFailed:
    error: Exception


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is queued. One that is refused gets Finished, with the error, instead."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Sent every HEARTBEAT_S, whatever else is."""

    stats: EngineStats
    rss_bytes: int  # resident memory of the engine's process
    progress: int  # a number that changes while a step gets on


Message = Submit | Cancel | Start | Loaded | LoadFailed | Accepted | Heartbeat | Event
