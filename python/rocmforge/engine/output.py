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
    Events go either to add() or, where no delta is wanted, to take(), which is cheaper.
    `shown_ids` are control tokens whose spelling is part of the text.
    """

    def __init__(
        self,
        submit: Submit,
        params: SamplingParams,
        tokenizer: Tokenizer,
        shown_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.submit = submit
        self.prompt_token_ids = list(submit.prompt_token_ids)
        self.finished: Finished | None = None
        self.is_stopped = False  # a stop string has been met, and the engine is to be told so
        self._vocab_size = tokenizer.vocab_size
        self._end_ids = frozenset() if params.ignore_eos else submit.stop_token_ids
        self._has_stop_strings = bool(params.stop)
        self._detokenizer = IncrementalDetokenizer(
            tokenizer, stop=params.stop, prompt_ids=self.prompt_token_ids, shown_ids=shown_ids
        )
        self._token_ids: list[int] = []
        self._logprobs: list[dict[int, float]] | None = None if params.logprobs is None else []
        self._num_read = 0  # tokens whose text has been taken
        self._texts: list[str] = []

    @property
    def cancel(self) -> Cancel:
        """What ends the request, by its reason."""
        return Cancel(self.submit.request_id, "stop" if self.is_stopped else "cancelled")

    def take(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            if self.is_stopped:
                return
            self._token_ids.append(event.token_id)
            if self._logprobs is not None and event.logprobs is not None:
                self._logprobs.append(event.logprobs)
            if self._has_stop_strings:
                self._read()
        elif isinstance(event, Finished):
            self.finished = event
            if not self.is_stopped:
                self._read()
                self._texts.append(self._detokenizer.finish())

    def add(self, events: list[Event]) -> TextDelta | None:
        """Takes the events of a step; None if they leave nothing to tell."""
        was_stopped = self.is_stopped
        num_texts, num_tokens = len(self._texts), len(self._token_ids)
        for event in events:
            self.take(event)
        self._read()
        text = "".join(self._texts[num_texts:])
        token_ids = self._token_ids[num_tokens:]
        reason = self.finish_reason
        if was_stopped or not (token_ids or text or reason):
            return None
        logprobs = None if self._logprobs is None else self._logprobs[num_tokens:]
        return TextDelta(text, token_ids, reason, logprobs)

    @property
    def finish_reason(self) -> FinishReason | None:
        if self.is_stopped:
            return "stop"
        return None if self.finished is None else self.finished.reason

    @property
    def error(self) -> Exception | None:
        """What a finished request failed with."""
        return None if self.is_stopped or self.finished is None else self.finished.error

    def output(self) -> RequestOutput:
        """Of a finished request."""
        assert self.finished is not None
        return RequestOutput(
            prompt_token_ids=self.prompt_token_ids,
            token_ids=self._token_ids,
            text="".join(self._texts),
            finish_reason="stop" if self.is_stopped else self.finished.reason,
            logprobs=self._logprobs,
            error=self.error,
            num_cached_tokens=self.finished.num_cached_tokens,
        )

    def _read(self) -> None:
        """Takes the text of new tokens. With stop strings there is one token at a time."""
        new = self._token_ids[self._num_read :]
        if not new:
            return
        self._num_read += len(new)
        # Logits may be wider than the vocabulary: models pad them to round sizes.
        readable = [i for i in new if i not in self._end_ids and i < self._vocab_size]
        self._texts.append(self._detokenizer.push(readable))
        self.is_stopped = self._detokenizer.stopped is not None


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

    def take(self, event: Event) -> None:
        if isinstance(event, RowsEvent):
            self._rows[event.start : event.start + len(event.rows)] = event.rows
        elif isinstance(event, Finished):
            self.finished = event

    @property
    def cancel(self) -> Cancel:
        return Cancel(self.submit.request_id)

    def output(self) -> npt.NDArray[np.float32]:
        """[tokens, width] of a finished request; raises what it failed with."""
        check_ended_well(self.finished)
        return self._rows


def check_ended_well(finished: Finished | None) -> None:
    """Raises what a finished request failed with, UnavailableError if the engine was closed first."""
    assert finished is not None
    if finished.error is not None:
        raise finished.error
    if finished.reason == "cancelled":
        msg = "the engine was closed before the request had ended"
        raise UnavailableError(msg)
