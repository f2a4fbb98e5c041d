"""Puts together what a request gives: text with stop strings, or rows of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rocmforge.engine.messages import Cancel, Event, Finished, RowsEvent, Submit, TokenEvent
from rocmforge.engine.request import FinishReason
from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import UnavailableError
from rocmforge.tokenizer import IncrementalDetokenizer, Tokenizer


@dataclass(slots=True)
class TextDelta:
    """What has come since the delta before. The last one has a `finish_reason`."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[dict[int, float]] | None = None  # one a token, if asked for


@dataclass(slots=True)
class RequestOutput:
    """A finished request. `text` and `token_ids` hold what came before an error as well.

    The token that ended the generation is the last of `token_ids`; it has no text.
    """

    prompt_token_ids: list[int]
    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[dict[int, float]] | None = None  # one {token id: logprob} a token
    error: Exception | None = None
    num_cached_tokens: int = 0  # prompt tokens that did not have to be computed


class TextAssembler:
    """One generation. Stop strings are found here, in the text, and not by the engine.

    Tokens that the engine has drawn after the one that completes a stop string are dropped.
    """

    def __init__(self, submit: Submit, params: SamplingParams, tokenizer: Tokenizer) -> None:
        self.submit = submit
        self.prompt_token_ids = list(submit.prompt_token_ids)
        self.finished: Finished | None = None
        self._vocab_size = tokenizer.vocab_size
        self._end_ids = frozenset() if params.ignore_eos else submit.stop_token_ids
        self._detokenizer = IncrementalDetokenizer(
            tokenizer, stop=params.stop, prompt_ids=self.prompt_token_ids
        )
        self._token_ids: list[int] = []
        self._logprobs: list[dict[int, float]] | None = None if params.logprobs is None else []
        self._texts: list[str] = []

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has been met, and the engine is to be told so."""
        return self._detokenizer.stopped is not None

    @property
    def cancel(self) -> Cancel:
        """What ends the request, by its reason."""
        return Cancel(self.submit.request_id, "stop" if self.is_stopped else "cancelled")

    def raise_error(self) -> None:
        """Raises what a finished request failed with, if it did."""
        if self.finished is not None and self.finished.error is not None and not self.is_stopped:
            raise self.finished.error

    def add(self, events: list[Event]) -> TextDelta | None:
        """Takes events of this request; None if they leave nothing to tell."""
        was_stopped = self.is_stopped
        token_ids: list[int] = []
        logprobs: list[dict[int, float]] = []
        text = ""
        for event in events:
            if isinstance(event, TokenEvent) and not self.is_stopped:
                token_ids.append(event.token_id)
                if event.logprobs is not None:
                    logprobs.append(event.logprobs)
                text += self._text_of(event.token_id)
            elif isinstance(event, Finished):
                self.finished = event
                if not self.is_stopped:
                    text += self._detokenizer.finish()
        self._token_ids += token_ids
        self._texts.append(text)
        if self._logprobs is not None:
            self._logprobs += logprobs
        reason: FinishReason | None = None
        if self.is_stopped:
            reason = "stop"
        elif self.finished is not None:
            reason = self.finished.reason
        if was_stopped or not (token_ids or text or reason):
            return None
        return TextDelta(text, token_ids, reason, None if self._logprobs is None else logprobs)

    def output(self) -> RequestOutput:
        """Of a finished request."""
        assert self.finished is not None
        return RequestOutput(
            prompt_token_ids=self.prompt_token_ids,
            token_ids=self._token_ids,
            text="".join(self._texts),
            finish_reason="stop" if self.is_stopped else self.finished.reason,
            logprobs=self._logprobs,
            error=None if self.is_stopped else self.finished.error,
            num_cached_tokens=self.finished.num_cached_tokens,
        )

    def _text_of(self, token_id: int) -> str:
        # Logits may be wider than the vocabulary: models pad them to round sizes.
        if token_id in self._end_ids or token_id >= self._vocab_size:
            return ""
        return self._detokenizer.push([token_id])


@dataclass(slots=True)
class RowsAssembler:
    """Logits or hidden states of every token of a request."""

    submit: Submit
    width: int
    finished: Finished | None = None
    is_stopped: bool = False  # by itself; rows have no stop strings
    _rows: npt.NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = np.empty((len(self.submit.prompt_token_ids), self.width), np.float32)

    def add(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, RowsEvent):
                self._rows[event.start : event.start + len(event.rows)] = event.rows
            elif isinstance(event, Finished):
                self.finished = event

    @property
    def cancel(self) -> Cancel:
        return Cancel(self.submit.request_id)

    def output(self) -> npt.NDArray[np.float32]:
        """[tokens, width] of a finished request; raises what it failed with."""
        assert self.finished is not None
        if self.finished.error is not None:
            raise self.finished.error
        if self.finished.reason == "cancelled":
            msg = "the engine was closed before the request had ended"
            raise UnavailableError(msg)
        return self._rows
