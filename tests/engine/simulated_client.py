"""One request of the simulation as its sender sees it, and what must hold of what he is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from fake_decoder import FakeDecoder, expected_row, expected_tokens

from rocmforge.engine.messages import (
    Event,
    Finished,
    LogprobsEvent,
    RowsEvent,
    Submit,
    TokenEvent,
)
from rocmforge.errors import OutOfMemoryError, RocmForgeError, UnavailableError


class GrammarFault(RocmForgeError):
    """What the simulated grammars fail with."""


class SimulatedGrammar:
    """Ends, or fails, with the output token that `params.regex` or `params.grammar` counts."""

    error: RocmForgeError | None = None

    def __init__(self, num_tokens: int, *, fails: bool) -> None:
        self._num_left = num_tokens
        self._fails = fails

    @property
    def is_finished(self) -> bool:
        return self._num_left == 0 and not self._fails

    def fill_mask(self, words: np.ndarray) -> None:
        words[:] = 2**32 - 1

    def accept(self, token_id: int) -> None:  # noqa: ARG002
        self._num_left -= 1
        if self._num_left == 0 and self._fails:
            msg = "the grammar has had enough"
            raise GrammarFault(msg)


@dataclass
class Client:
    """`submitted_at` is by the simulation's clock."""

    submit: Submit
    decoder: FakeDecoder
    submitted_at: float
    token_ids: list[int] = field(default_factory=list)
    num_rows: int = 0
    finished: Finished | None = None
    steps_since_cancel: int | None = None
    cancel_reason: str = ""

    def take(self, event: Event, now: float, *, is_closed: bool, is_lost: bool) -> None:
        """`is_closed`: the engine was told to end everything; `is_lost`: its device fails."""
        assert self.finished is None, "an event after the last"
        if isinstance(event, TokenEvent):
            assert self.steps_since_cancel is None, "a token after cancellation"
            self._check_logprobs(event)
            self.token_ids.append(event.token_id)
        elif isinstance(event, RowsEvent):
            self._check_rows(event)
        elif isinstance(event, LogprobsEvent):
            self._check_prompt_logprobs(event)
        else:
            self.finished = event
            self._check_finished(event, now, is_closed=is_closed, is_lost=is_lost)

    def _check_logprobs(self, event: TokenEvent) -> None:
        """The fake decoder gives token i the log-probability -i / 100, whatever the step."""
        assert self.submit.params is not None
        wanted = self.submit.params.logprobs
        if wanted is None:
            assert event.logprobs is None
        else:
            ids = {event.token_id, *range(wanted)}
            assert event.logprobs == {i: float(np.float32(-i / 100)) for i in ids}

    def _check_rows(self, event: RowsEvent) -> None:
        prompt = list(self.submit.prompt_token_ids)
        assert event.start == self.num_rows or event.start == 0  # 0 after a preemption
        wants_logits = self.submit.output == "logits"
        width = self.decoder.vocab_size if wants_logits else self.decoder.hidden_size
        for i, row in enumerate(event.rows):
            assert (row == expected_row(prompt[: event.start + i + 1], width)).all()
        self.num_rows = event.start + len(event.rows)

    def _check_prompt_logprobs(self, event: LogprobsEvent) -> None:
        prompt, num_top = list(self.submit.prompt_token_ids), self.submit.num_logprobs
        assert event.start in (self.num_rows + 1, 1)  # the first has none; 1 after a preemption
        for i, found in enumerate(event.logprobs, event.start):
            row = expected_row(prompt[:i], self.decoder.vocab_size).astype(np.float64)
            row -= np.log(np.exp(row).sum())
            ids = {prompt[i], *np.argsort(-row)[:num_top].tolist()}
            assert found.keys() == ids
            assert all(abs(found[j] - row[j]) < 1e-4 for j in ids)
        self.num_rows = event.start + len(event.logprobs) - 1

    def _check_finished(
        self, event: Finished, now: float, *, is_closed: bool, is_lost: bool
    ) -> None:
        submit = self.submit
        assert event.num_output_tokens == len(self.token_ids)  # I8
        assert event.num_prompt_tokens == len(submit.prompt_token_ids)
        assert 0 <= event.num_cached_tokens < event.num_prompt_tokens
        assert min(event.queue_s, event.prefill_s, event.decode_s) >= 0
        assert (event.error is not None) == (event.reason == "error")
        if event.reason == "error":
            assert is_lost or self._may_fail_with(event.error, now)
        elif event.reason == "cancelled":
            assert is_closed or self.cancel_reason == "cancelled"
        self._check_tokens(event)

    def _check_tokens(self, event: Finished) -> None:
        submit = self.submit
        if submit.params is None:
            # Of what follows the last token nothing is known, so it has no log-probabilities.
            num_missing = len(submit.prompt_token_ids) - self.num_rows
            if event.reason == "stop" and not self.cancel_reason:
                assert num_missing == (1 if submit.output == "logprobs" else 0)
            else:
                assert num_missing > 0
            return
        token_ids, reason = expected_tokens(
            submit.prompt_token_ids,
            seed=submit.seed,
            vocab_size=self.decoder.vocab_size,
            max_tokens=submit.params.max_tokens,
            max_model_len=self.decoder.max_model_len,
            stop_token_ids=submit.stop_token_ids,
        )
        if submit.params.regex and int(submit.params.regex) <= len(token_ids):
            token_ids, reason = token_ids[: int(submit.params.regex)], "stop"
        assert token_ids[: len(self.token_ids)] == self.token_ids  # I7
        if event.reason in {"stop", "length"} and not self.cancel_reason:
            assert (self.token_ids, event.reason) == (token_ids, reason)

    def _may_fail_with(self, error: Exception | None, now: float) -> bool:
        params = self.submit.params
        if isinstance(error, GrammarFault):
            assert params is not None
            return len(self.token_ids) == int(params.grammar or 0) - 1
        if isinstance(error, UnavailableError):  # I11
            waits = self.submit.max_wait_s
            return not self.token_ids and waits is not None and now > self.submitted_at + waits
        if "no token can be drawn" in str(error):
            return self.decoder.is_bad(self.submit.seed)
        return isinstance(error, OutOfMemoryError)
