"""Pooled hidden states, and models whose tokens see those after them, on the fake decoder."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from fake_decoder import FakeDecoder, expected_row
from fake_session import FakeModel, fake_model, tokenizer

from rocmforge.engine.embedding import EmbeddingAssembler
from rocmforge.engine.engine import Engine
from rocmforge.engine.llm import LLM
from rocmforge.engine.messages import Event, Finished, RowsEvent, Submit
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.errors import DeviceError, InvalidArgumentError, UnsupportedError

WIDTH = FakeDecoder.hidden_size


def rows_of(token_ids: list[int]) -> np.ndarray:
    return np.array([expected_row(token_ids[: i + 1], WIDTH) for i in range(len(token_ids))])


class Setup:
    """An engine of steps of 16 tokens for sequences of up to 40."""

    def __init__(self, *, budget: int = 16, **decoder: Any) -> None:
        self.decoder = FakeDecoder(**({"max_num_tokens": 16, "max_model_len": 40} | decoder))
        self.events: list[Event] = []
        config = SchedulerConfig(max_num_batched_tokens=budget, max_num_seqs=8, max_queue=20)
        self.engine = Engine(self.decoder, config, self.events.extend)
        self.assemblers: dict[int, EmbeddingAssembler] = {}

    def submit(self, prompt: list[int], pooling: Any = "mean") -> EmbeddingAssembler:
        number = len(self.assemblers)
        submit = Submit(number, prompt, None, output="hidden", pooling=pooling)
        self.engine.submit(submit)
        self.assemblers[number] = EmbeddingAssembler(submit, WIDTH, normalize=False)
        return self.assemblers[number]

    def run(self) -> None:
        while self.engine.step():
            self.engine.scheduler.check_integrity()
        for event in self.events:
            self.assemblers[event.request_id].take(event)


@pytest.mark.parametrize("length", [1, 16, 17, 40])
def test_a_text_is_pooled_over_all_its_steps_a_row_each(length: int) -> None:
    setup = Setup()
    text = list(range(length))
    kinds = {kind: setup.submit(text, kind) for kind in ("mean", "cls", "last")}
    setup.run()
    rows = rows_of(text)
    assert (kinds["cls"].output() == rows[0]).all()
    assert (kinds["last"].output() == rows[-1]).all()
    assert kinds["mean"].output() == pytest.approx(rows.mean(axis=0, dtype=np.float64), abs=1e-6)
    assert all(len(e.rows) <= 1 for e in setup.events if isinstance(e, RowsEvent))


def test_a_text_that_begins_again_is_counted_once() -> None:
    submit = Submit(1, [1, 2, 3], None, output="hidden", pooling="mean")
    assembler = EmbeddingAssembler(submit, 2, normalize=True)
    for start, row in ((0, [9.0, 9.0]), (0, [1.0, 2.0]), (2, [2.0, 2.0])):
        assembler.take(RowsEvent(1, start, np.array([row], np.float32)))
    assembler.take(Finished(1, "stop", None, 3, 0, 0))
    assert assembler.output() == pytest.approx([0.6, 0.8])


def test_a_failed_text_raises_its_error() -> None:
    submit = Submit(1, [1], None, output="hidden", pooling="cls")
    assembler = EmbeddingAssembler(submit, 2, normalize=True)
    assembler.take(Finished(1, "error", DeviceError("gone"), 1, 0, 0))
    with pytest.raises(DeviceError, match="gone"):
        assembler.output()


def test_whole_texts_of_mixed_lengths_share_steps() -> None:
    """In steps of 40, as long as the longest text there may be, whatever was configured."""
    setup = Setup(is_causal=False, max_num_tokens=40, num_blocks=100)
    sizes = [30, 20, 5, 40, 4, 1]
    texts = [[number] * size for number, size in enumerate(sizes)]
    requests = [setup.submit(text, "last") for text in texts]
    setup.run()  # the decoder asserts that each has all its tokens in one step
    for request, text in zip(requests, texts, strict=True):
        assert (request.output() == rows_of(text)[-1]).all()
    steps = [30 + 5 + 4 + 1] * 4 + [20] + [40]  # once for each text in them
    assert setup.decoder.row_counts == steps


def test_a_small_cache_serves_whole_texts_one_after_the_other() -> None:
    setup = Setup(is_causal=False, max_num_tokens=40, num_blocks=10 + 8)
    requests = [setup.submit([number] * 40, "cls") for number in range(6)]
    setup.run()
    for number, request in enumerate(requests):
        assert (request.output() == rows_of([number])[0]).all()


@pytest.mark.parametrize("seed", range(60))
def test_whole_texts_end_in_caches_and_steps_of_any_size(seed: int) -> None:
    rng = random.Random(seed)
    most = rng.randint(1, 40)
    block_size = rng.choice([1, 3, 4, 16])
    setup = Setup(
        is_causal=False,
        budget=8,
        max_num_tokens=max(most, rng.randint(8, 60)),
        max_model_len=most,
        block_size=block_size,
        num_blocks=-(-most // block_size) + rng.randint(0, 12),
    )
    texts = [[rng.randrange(50)] * rng.randint(1, most) for _ in range(12)]
    kinds = [rng.choice(["mean", "cls", "last"]) for _ in texts]
    requests = [setup.submit(text, kind) for text, kind in zip(texts, kinds, strict=True)]
    setup.run()
    for request, text, kind in zip(requests, texts, kinds, strict=True):
        rows = rows_of(text)
        expected = {"mean": rows.mean(axis=0, dtype=np.float64), "cls": rows[0], "last": rows[-1]}
        assert request.output() == pytest.approx(expected[kind], abs=1e-6)


def test_a_text_longer_than_a_step_is_refused() -> None:
    setup = Setup(is_causal=False, max_num_tokens=20)
    setup.submit([1] * 20)
    with pytest.raises(InvalidArgumentError, match="21 tokens do not fit into a context of 20"):
        setup.submit([1] * 21)


@pytest.mark.parametrize("output", ["tokens", "logits", "logprobs"])
def test_what_such_models_cannot_do_is_refused_with_what_they_can(output: Any) -> None:
    setup = Setup(is_causal=False)
    params = SamplingParams() if output == "tokens" else None
    with pytest.raises(UnsupportedError, match=r"makes embeddings.*LLM\.embed"):
        setup.engine.submit(Submit(1, [1, 2], params, output=output))


@pytest.fixture
def model() -> Any:
    with fake_model(is_causal=False) as model:
        yield model


def test_llm_refuses_to_generate_and_to_chat(model: FakeModel) -> None:  # noqa: ARG001
    with LLM() as llm:
        for attempt in (
            lambda: llm.generate("a"),
            lambda: llm.stream("a"),
            lambda: llm.chat([{"role": "user", "content": "a"}]),
            lambda: llm.logits([1, 2]),
        ):
            with pytest.raises(UnsupportedError, match="makes embeddings"):
                attempt()


def test_llm_embeds_as_it_is_told(model: FakeModel) -> None:  # noqa: ARG001
    texts = ["There was", "a king who had no crown"]
    ids = [tokenizer().encode(text, add_special=True) for text in texts]
    with LLM() as llm:
        first = llm.embed(texts, pooling="cls")
        last = llm.embed(texts, pooling="last", normalize=True)
        with pytest.raises(InvalidArgumentError, match="pooling is 'max'; it can be mean, cls"):
            llm.embed(texts, pooling="max")  # type: ignore[arg-type]
        assert llm.embed([]).shape == (0, WIDTH)
    assert (first == [rows_of(text)[0] for text in ids]).all()
    expected = np.array([rows_of(text)[-1] for text in ids])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert last == pytest.approx(expected, abs=1e-6)
