from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_decoder import expected_row
from fake_session import PATIENCE_S, FakeModel, fake_model, tokenizer

from rocmforge.engine import AsyncLLM, SamplingParams
from rocmforge.errors import DeviceError, InvalidArgumentError, UnavailableError


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


def params(max_tokens: int = 6, seed: int = 3, **values: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, seed=seed, temperature=1.0, **values)


def run(use: Callable[[AsyncLLM], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncLLM(max_num_seqs=4) as llm:
            await asyncio.wait_for(use(llm), PATIENCE_S)

    asyncio.run(main())


async def until_idle(llm: AsyncLLM) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while llm.stats().num_running or llm.stats().num_waiting:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_outputs_come_in_the_order_of_their_prompts(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        outputs = await llm.generate([[5, 6], [7]], [params(9), params(2)])
        assert outputs[0].token_ids == model.expected([5, 6], 3, 9)
        assert outputs[1].token_ids == model.expected([7], 3, 2)

    run(use)


def test_tasks_share_one_model(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        tasks = [llm.generate([number, 1], params()) for number in range(40)]
        for number, (output,) in enumerate(await asyncio.gather(*tasks)):
            assert output.token_ids == model.expected([number, 1], 3, 6)

    run(use)


def test_a_stream_yields_deltas_and_then_the_reason(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        deltas = [delta async for delta in llm.stream([5, 6], params())]
        token_ids = [i for delta in deltas for i in delta.token_ids]
        assert token_ids == model.expected([5, 6], 3, 6)
        assert "".join(d.text for d in deltas) == tokenizer().decode(token_ids)
        assert [d.finish_reason for d in deltas] == [None] * (len(deltas) - 1) + ["length"]

    run(use)


def test_a_stop_string_ends_the_request_in_the_engine(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        (whole,) = await llm.generate([1, 2], params(max_tokens=40))
        texts = [tokenizer().decode([i]) for i in whole.token_ids]
        stop = next(text for text in texts[3:] if len(text.strip()) > 2)
        model.close_gate()
        model.gate.let_through(40)
        deltas = []
        async for delta in llm.stream([1, 2], params(max_tokens=60, stop=[stop])):
            deltas.append(delta)
        model.gate.open()
        assert "".join(d.text for d in deltas) == whole.text[: whole.text.index(stop)]
        assert deltas[-1].finish_reason == "stop"
        await until_idle(llm)
        assert llm.stats().num_finished["stop"] == 1

    run(use)


@pytest.mark.parametrize("kind", ["generate", "stream", "logits"])
def test_cancelling_the_task_cancels_its_requests(model: FakeModel, kind: str) -> None:
    async def use(llm: AsyncLLM) -> None:
        model.close_gate()

        async def work() -> None:
            if kind == "generate":
                await llm.generate([[1, 2], [3, 4]], params(max_tokens=60))
            elif kind == "logits":
                await llm.logits([1, 2, 3])
            else:
                async for _ in llm.stream([1, 2], params(max_tokens=60)):
                    pass

        task = asyncio.create_task(work())
        while not llm.stats().num_running:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        model.gate.open()
        await until_idle(llm)
        stats = llm.stats()
        if kind != "logits":  # whose only step was running already
            assert stats.num_finished["length"] == stats.num_finished["stop"] == 0
        assert sum(stats.num_finished.values()) == (2 if kind == "generate" else 1)
        assert stats.cache.num_free == stats.cache.num_blocks
        assert not llm._session.host._router.channels

    run(use)


def test_cancellation_at_any_moment_leaves_nothing_behind(model: FakeModel) -> None:
    """The delay walks over encoding, submission, queue and decoding."""

    async def use(llm: AsyncLLM) -> None:
        for i in range(120):
            task = asyncio.create_task(llm.generate([[1, i], [2, i]], params(max_tokens=20)))
            for _ in range(i % 12):
                await asyncio.sleep(0)
            if i % 3 == 0:
                await asyncio.sleep(i / 120 * 0.004)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until_idle(llm)
        assert llm.stats().cache.num_free == model.decoder.num_blocks
        assert not llm._session.host._router.channels

    run(use)


@pytest.mark.parametrize("how", ["aclose", "drop", "break"])
def test_leaving_a_stream_ends_its_request(model: FakeModel, how: str) -> None:
    async def use(llm: AsyncLLM) -> None:
        model.close_gate()
        model.gate.let_through(2)
        stream = llm.stream([1, 2], params(max_tokens=60))
        if how == "break":
            async for _ in stream:
                break
        else:
            await stream.__anext__()
        if how == "aclose":
            await stream.aclose()
        del stream
        gc.collect()
        model.gate.open()
        await until_idle(llm)
        assert llm.stats().num_finished["cancelled"] == 1

    run(use)


def test_a_stream_never_begun_asks_nothing_of_the_engine(model: FakeModel) -> None:  # noqa: ARG001
    async def use(llm: AsyncLLM) -> None:
        stream = llm.stream([1, 2], params())
        await stream.aclose()
        assert [delta async for delta in stream] == []
        assert llm.stats().num_prompt_tokens == 0

    run(use)


def test_refusals_and_failures_are_raised(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        with pytest.raises(InvalidArgumentError, match="70 tokens"):
            await llm.generate([1] * 70)
        with pytest.raises(InvalidArgumentError, match="70 tokens"):
            await llm.stream([1] * 70).__anext__()
        model.decoder.is_bad = lambda seed: seed == 13
        (output,) = await llm.generate([1, 2], params(seed=13))
        assert isinstance(output.error, DeviceError)
        with pytest.raises(DeviceError):
            await llm.stream([1, 2], params(seed=13)).__anext__()
        await llm.close()
        with pytest.raises(UnavailableError):
            await llm.generate([1, 2])

    run(use)


def test_rows_and_embeddings_are_awaited(model: FakeModel) -> None:
    async def use(llm: AsyncLLM) -> None:
        logits = await llm.logits([4, 5])
        width = model.decoder.vocab_size
        assert (logits == np.array([expected_row(i, width) for i in ([4], [4, 5])])).all()
        assert (await llm.embed(["a king", "There"])).shape == (2, 6)

    run(use)


def test_chat_takes_the_files_template(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    monkeypatch.setattr(tokenizer(), "_templates", {"": source})
    prompt = tokenizer().encode("<user>hello", parse_special=True)

    async def use(llm: AsyncLLM) -> None:
        conversation = [{"role": "user", "content": "hello"}]
        (output,) = await llm.chat(conversation, params())
        assert output.token_ids == model.expected(prompt, 3, 6)
        deltas = [d async for d in llm.stream_chat(conversation, params())]
        assert [i for d in deltas for i in d.token_ids] == output.token_ids

    run(use)


def test_one_model_serves_one_event_loop_after_another(model: FakeModel) -> None:
    llm = AsyncLLM(max_num_seqs=4)
    for _ in range(3):
        (output,) = asyncio.run(llm.generate([1, 2], params()))
        assert output.token_ids == model.expected([1, 2], 3, 6)
    assert len(llm._bridges) == 1
    asyncio.run(llm.close())
