from __future__ import annotations

from typing import Any

import pytest
from fake_session import tokenizer

from rocmforge.engine.messages import Event, Finished, Submit, TokenEvent
from rocmforge.engine.output import TextAssembler
from rocmforge.engine.request import FinishReason
from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import DeviceError


def assembler(**values: Any) -> TextAssembler:
    params = SamplingParams(**values)
    submit = Submit(
        1, [tokenizer().bos_id or 0], params, stop_token_ids=frozenset(tokenizer().eog_ids)
    )
    return TextAssembler(submit, params, tokenizer())


def token(token_id: int, logprobs: dict[int, float] | None = None) -> TokenEvent:
    return TokenEvent(1, token_id, logprobs)


def finished(reason: FinishReason = "length", error: Exception | None = None) -> Finished:
    return Finished(1, reason, error, 1, 0, 0)


def feed(generation: TextAssembler, events: list[Event]) -> list[tuple[str, str | None]]:
    deltas = [generation.add([event]) for event in events]
    return [(d.text, d.finish_reason) for d in deltas if d is not None]


@pytest.mark.parametrize("stop", [(), ("king who",), ("absent",)])
@pytest.mark.parametrize("logprobs", [None, 0])
def test_the_output_is_the_same_with_and_without_deltas(
    stop: tuple[str, ...], logprobs: int | None
) -> None:
    ids = tokenizer().encode("There was a king who had no crown.")
    events: list[Event] = [token(i, None if logprobs is None else {i: -1.0}) for i in ids]
    events.append(finished())
    told, quiet = (assembler(stop=stop, logprobs=logprobs) for _ in range(2))
    feed(told, events)
    for event in events:
        quiet.take(event)
    assert told.output() == quiet.output()


def test_a_token_and_the_end_in_one_step_are_one_delta() -> None:
    delta = assembler().add([token(5), finished()])
    assert delta is not None
    assert (delta.token_ids, delta.finish_reason) == ([5], "length")


def test_deltas_put_together_are_the_output() -> None:
    generation = assembler()
    ids = tokenizer().encode("There was a king who had no crown.")
    deltas = feed(generation, [*map(token, ids), finished()])
    output = generation.output()
    assert "".join(text for text, _ in deltas) == output.text == tokenizer().decode(ids)
    assert output.token_ids == ids
    assert [reason for _, reason in deltas[:-1]] == [None] * len(ids)
    assert output.finish_reason == deltas[-1][1] == "length"


def test_a_stop_string_across_tokens_ends_text_and_tokens_there() -> None:
    generation = assembler(stop=["king who"])
    ids = tokenizer().encode("There was a king who had no crown.")
    whole = tokenizer().decode(ids)
    deltas = feed(generation, [*map(token, ids), finished("cancelled")])
    assert generation.is_stopped
    assert generation.cancel.reason == "stop"
    assert deltas[-1][1] == "stop"
    output = generation.output()
    assert output.text == whole[: whole.index("king who")]
    assert output.finish_reason == "stop"
    text = tokenizer().decode(output.token_ids)
    assert text.endswith("who")
    assert len(output.token_ids) < len(ids)


def test_nothing_comes_after_a_stop_string() -> None:
    generation = assembler(stop=["king"])
    feed(generation, [token(i) for i in tokenizer().encode("a king")])
    assert generation.is_stopped
    assert generation.add([token(5)]) is None
    assert generation.add([finished("cancelled")]) is None


def test_text_held_back_for_a_stop_string_comes_in_the_end() -> None:
    generation = assembler(stop=["no crown at all"])
    ids = tokenizer().encode("he had no crown")
    deltas = feed(generation, [*map(token, ids), finished()])
    assert deltas[-1] == ("no crown", "length")
    assert generation.output().text == tokenizer().decode(ids)


def test_the_end_token_has_no_text_but_is_in_the_tokens() -> None:
    generation = assembler()
    end = next(iter(tokenizer().eog_ids))
    ids = tokenizer().encode("done")
    feed(generation, [*map(token, ids), token(end), finished("stop")])
    assert generation.output().token_ids == [*ids, end]
    assert generation.output().text == tokenizer().decode(ids)


def test_an_end_token_with_a_text_gives_none_of_it() -> None:
    params = SamplingParams()
    ids = tokenizer().encode("a king")
    submit = Submit(1, [0], params, stop_token_ids=frozenset(ids[-1:]))
    generation = TextAssembler(submit, params, tokenizer())
    feed(generation, [*map(token, ids), finished("stop")])
    assert generation.output().token_ids == ids
    assert generation.output().text == tokenizer().decode(ids[:-1])


def test_an_id_beyond_the_vocabulary_has_no_text() -> None:
    generation = assembler()
    feed(generation, [token(tokenizer().vocab_size), finished()])
    assert generation.output().text == ""


def test_logprobs_come_with_their_tokens() -> None:
    generation = assembler(logprobs=0)
    first = generation.add([token(5, {5: -0.5})])
    assert first is not None
    assert first.logprobs == [{5: -0.5}]
    generation.add([token(6, {6: -0.25}), finished()])
    assert generation.output().logprobs == [{5: -0.5}, {6: -0.25}]
    assert feed(assembler(), [finished()])
    assert assembler().add([finished()]) is not None


def test_without_logprobs_there_are_none() -> None:
    generation = assembler()
    delta = generation.add([token(5), finished()])
    assert delta is not None
    assert delta.logprobs is None
    assert generation.output().logprobs is None


def test_an_error_stays_with_what_came_before_it() -> None:
    generation = assembler()
    ids = tokenizer().encode("There was")
    error = DeviceError("lost")
    feed(generation, [*map(token, ids), finished("error", error)])
    output = generation.output()
    assert (output.token_ids, output.finish_reason, output.error) == (ids, "error", error)
    assert generation.error is error
