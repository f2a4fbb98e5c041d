from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from fake_decoder import expected_row
from fake_session import FakeModel, engine_threads, fake_model, tokenizer, wait_for

from rocmforge.engine import LLM, SamplingParams
from rocmforge.engine.base_llm import BaseLLM
from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    UnavailableError,
    UnsupportedError,
)
from rocmforge.tokenizer import Tokenizer


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


@pytest.fixture
def llm(model: FakeModel) -> Iterator[LLM]:
    with LLM(max_num_seqs=4) as llm:
        yield llm
        model.gate.open()


def params(max_tokens: int = 6, seed: int = 3, **values: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, seed=seed, temperature=1.0, **values)


def wait_until_idle(llm: LLM) -> None:
    wait_for(lambda: not (llm.stats().num_running or llm.stats().num_waiting))


def test_one_prompt_gives_one_output(llm: LLM, model: FakeModel) -> None:
    (output,) = llm.generate("There was", params())
    assert output.prompt_token_ids == tokenizer().encode("There was", add_special=True)
    assert output.token_ids == model.expected(output.prompt_token_ids, 3, 6)
    assert output.text == tokenizer().decode([*output.token_ids])
    assert (output.finish_reason, output.error, output.logprobs) == ("length", None, None)


def test_outputs_come_in_the_order_of_their_prompts(llm: LLM, model: FakeModel) -> None:
    prompts = ["There was", [5, 6, 7], "a king"]
    outputs = llm.generate(prompts, [params(n) for n in (9, 2, 5)])
    assert [len(o.token_ids) for o in outputs] == [9, 2, 5]
    assert outputs[1].prompt_token_ids == [5, 6, 7]
    for output, max_tokens in zip(outputs, (9, 2, 5), strict=True):
        assert output.token_ids == model.expected(output.prompt_token_ids, 3, max_tokens)


def test_token_ids_are_one_prompt(llm: LLM) -> None:
    (output,) = llm.generate(np.array([5, 6, 7]), params())
    assert output.prompt_token_ids == [5, 6, 7]


def test_more_prompts_than_the_queue_holds_all_run() -> None:
    with fake_model(max_num_seqs=2, max_queue=3) as model, LLM(max_num_seqs=2) as llm:
        prompts = [[i, i + 1] for i in range(20)]
        outputs = llm.generate(prompts, params())
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.token_ids == model.expected(prompt, 3, 6)


def test_a_queue_filled_by_others_is_a_capacity_error() -> None:
    with fake_model(max_queue=3) as model, LLM(max_num_seqs=4) as llm:
        model.close_gate()
        streams = [llm.stream([1, 2], params())]
        wait_for(lambda: model.gate.has_come)
        streams += [llm.stream([1, 2], params()) for _ in range(3)]
        with pytest.raises(CapacityError):
            llm.generate([1, 2], params())
        model.gate.open()
        assert all(list(stream)[-1].finish_reason == "length" for stream in streams)


def test_requests_without_a_seed_differ(llm: LLM) -> None:
    outputs = llm.generate([[1, 2]] * 3, SamplingParams(max_tokens=8, temperature=1.0))
    assert len({tuple(o.token_ids) for o in outputs}) == 3


@pytest.mark.parametrize("add_bos", [True, False])
def test_an_empty_text_begins_with_the_models_mark(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, add_bos: bool
) -> None:
    monkeypatch.setattr(tokenizer(), "add_bos", add_bos)
    (output,) = llm.generate("", params())
    assert output.prompt_token_ids == [tokenizer().bos_id]


def test_an_empty_text_without_such_a_mark_is_refused(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer(), "bos_id", None)
    with pytest.raises(InvalidArgumentError, match="empty"):
        llm.generate("", params())


def test_a_prompt_beyond_the_context_is_refused_with_both_lengths(llm: LLM) -> None:
    with pytest.raises(InvalidArgumentError, match=r"70 tokens .* context of 64"):
        llm.generate([[1, 2], [1] * 70], params())
    wait_until_idle(llm)


def test_parameters_for_another_number_of_prompts_are_refused(llm: LLM) -> None:
    with pytest.raises(InvalidArgumentError, match="2 sampling parameters for 1 prompts"):
        llm.generate("a", [params(), params()])


def test_a_failing_request_keeps_its_error_and_leaves_the_others(
    llm: LLM, model: FakeModel
) -> None:
    model.decoder.is_bad = lambda seed: seed == 13
    bad, good = llm.generate([[1, 2], [1, 2]], [params(seed=13), params(seed=3)])
    assert bad.finish_reason == "error"
    assert isinstance(bad.error, DeviceError)
    assert good.token_ids == model.expected([1, 2], 3, 6)


def test_a_stream_yields_deltas_and_then_the_reason(llm: LLM, model: FakeModel) -> None:
    stream = llm.stream("There was", params())
    deltas = list(stream)
    token_ids = [i for delta in deltas for i in delta.token_ids]
    assert token_ids == model.expected(stream.prompt_token_ids, 3, 6)
    assert "".join(d.text for d in deltas) == tokenizer().decode(token_ids)
    assert [d.finish_reason for d in deltas][-1] == "length"
    assert {d.finish_reason for d in deltas[:-1]} == {None}
    assert list(stream) == []


def test_a_stream_refuses_at_the_call(llm: LLM) -> None:
    with pytest.raises(InvalidArgumentError):
        llm.stream([1] * 70, params())


def test_a_failing_stream_raises_its_error(llm: LLM, model: FakeModel) -> None:
    model.decoder.is_bad = lambda seed: seed == 13
    with pytest.raises(DeviceError):
        list(llm.stream([1, 2], params(seed=13)))


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_leaving_a_stream_ends_its_request(llm: LLM, model: FakeModel, how: str) -> None:
    model.close_gate()
    model.gate.let_through(2)
    stream = llm.stream([1, 2], params(max_tokens=60))
    assert next(stream).token_ids
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()
    model.gate.open()
    wait_until_idle(llm)
    assert llm.stats().num_finished["cancelled"] == 1
    assert llm.stats().num_output_tokens < 10


def test_a_stop_string_ends_the_request_in_the_engine(llm: LLM, model: FakeModel) -> None:
    (whole,) = llm.generate([1, 2], params(max_tokens=40))
    texts = [tokenizer().decode([i]) for i in whole.token_ids]
    stop = next(text for text in texts[3:] if len(text.strip()) > 2)
    (output,) = llm.generate([1, 2], params(max_tokens=40, stop=[stop]))
    assert output.finish_reason == "stop"
    assert output.text == whole.text[: whole.text.index(stop)]
    assert output.token_ids == whole.token_ids[: len(output.token_ids)]
    wait_until_idle(llm)
    before = llm.stats().num_finished["stop"]

    model.close_gate()
    model.gate.let_through(len(output.token_ids))
    streamed = list(llm.stream([1, 2], params(max_tokens=40, stop=[stop])))
    model.gate.open()
    assert "".join(d.text for d in streamed) == output.text
    assert streamed[-1].finish_reason == "stop"
    wait_until_idle(llm)
    assert llm.stats().num_finished["stop"] == before + 1


def test_generate_tells_the_engine_of_a_stop_string(llm: LLM, model: FakeModel) -> None:
    (whole,) = llm.generate([1, 2], params(max_tokens=10))
    model.close_gate()
    model.gate.let_through(10)
    stops = params(max_tokens=60, stop=[whole.text[4:8]])
    thread = threading.Thread(target=llm.generate, args=([1, 2], stops))
    thread.start()
    engine = llm._session.host._engine
    wait_for(lambda: llm.stats().num_output_tokens >= 20 or llm.stats().num_finished["stop"] == 1)
    wait_for(lambda: bool(llm.stats().num_finished["stop"] or engine.inbox.has_messages))
    model.gate.open()
    thread.join()
    assert llm.stats().num_finished["stop"] == 1


def test_an_interrupted_generate_cancels_its_requests(
    llm: LLM, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.close_gate()
    model.gate.let_through(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rocmforge.engine.gathering.Gathering.add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        llm.generate([[1, 2], [3, 4]], params(max_tokens=60))
    model.gate.open()
    wait_until_idle(llm)
    assert llm.stats().num_finished["cancelled"] == 2


def test_threads_share_one_model(llm: LLM, model: FakeModel) -> None:
    results: dict[int, list[int]] = {}

    def run(number: int) -> None:
        results[number] = llm.generate([number, 1], params())[0].token_ids

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: model.expected([number, 1], 3, 6) for number in range(6)}


def test_logits_have_a_row_for_every_token(llm: LLM) -> None:
    logits = llm.logits([4, 5, 6])
    width = tokenizer().vocab_size
    expected = [expected_row(ids, width) for ids in ([4], [4, 5], [4, 5, 6])]
    assert logits.dtype == np.float32
    assert (logits == np.array(expected)).all()


def test_embeddings_are_means_over_the_tokens(llm: LLM, model: FakeModel) -> None:
    texts = ["There was", "a king who had no crown"]
    embeddings = llm.embed(texts)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (2, model.decoder.hidden_size)
    for text, embedding in zip(texts, embeddings, strict=True):
        ids = tokenizer().encode(text, add_special=True)
        rows = [expected_row(ids[: i + 1], 6) for i in range(len(ids))]
        assert embedding == pytest.approx(np.mean(rows, axis=0, dtype=np.float64), abs=1e-6)
    assert (llm.embed(texts[1]) == embeddings[1:]).all()


def test_rows_of_a_model_that_is_closed_meanwhile_are_an_error(model: FakeModel) -> None:
    llm = LLM(max_num_seqs=4)
    model.close_gate()

    def close() -> None:
        wait_for(lambda: llm.stats().num_running == 1)
        threading.Timer(0.02, model.gate.open).start()
        llm.close()

    llm._session.host._engine._update = lambda *_: None  # type: ignore[method-assign]
    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(UnavailableError, match="closed"):
        llm.logits([1, 2, 3])
    closing.join()


def test_chat_takes_the_files_template(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    end = min(tokenizer().eog_ids)
    mark = tokenizer().token_text(end)
    source = "{% for m in messages %}" + mark + "{{ m.content }}{% endfor %}<assistant>"
    monkeypatch.setattr(tokenizer(), "_templates", {"": source})
    conversation = [{"role": "user", "content": "hello"}]
    (output,) = llm.chat(conversation, params())
    assert output.prompt_token_ids == [end, *tokenizer().encode("hello<assistant>")]
    two = llm.chat([conversation, conversation], params())
    assert [o.token_ids for o in two] == [output.token_ids] * 2
    streamed = list(llm.stream_chat(conversation, params()))
    assert [i for d in streamed for i in d.token_ids] == output.token_ids


def test_chat_without_a_template_is_unsupported(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer(), "_templates", {})
    with pytest.raises(UnsupportedError, match="no chat template"):
        llm.chat([{"role": "user", "content": "hello"}])


def test_a_model_tells_what_it_is(llm: LLM) -> None:
    assert (llm.name, llm.device, llm.load_s, llm.max_model_len) == ("fake.gguf", "cpu", 0.5, 64)
    assert llm.placement() == [("all", "cpu", "it is a fake")]
    assert llm.tokenizer is tokenizer()


@pytest.mark.usefixtures("model")
def test_closing_ends_the_thread_and_what_runs() -> None:
    llm = LLM(max_num_seqs=4)
    stream = llm.stream([1, 2], params(max_tokens=60))
    next(stream)
    llm.close()
    llm.close()
    assert list(itertools.islice(stream, 100))[-1].finish_reason in {"cancelled", "length"}
    assert not engine_threads()
    with pytest.raises(UnavailableError):
        llm.generate("a")


def test_every_argument_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Stop(Exception):
        pass

    def load(path: object, options: object, _progress: object) -> None:
        seen.append((path, options))
        raise Stop

    monkeypatch.setattr("rocmforge.engine.session.load_model", load)
    monkeypatch.setattr("rocmforge.engine.session.open_model", nullcontext)
    monkeypatch.setattr(Tokenizer, "from_gguf", lambda _file: None)
    values = {
        "device": "cpu",
        "threads": 3,
        "max_model_len": 77,
        "gpu_layers": 0,
        "require_gpu": True,
        "kv_dtype": "f32",
        "memory_fraction": 0.25,
        "block_size": 8,
        "max_num_seqs": 600,
        "deterministic": True,
        "activations": "float",
    }
    with pytest.raises(Stop):
        BaseLLM("a.gguf", **values)  # type: ignore[arg-type]
    ((path, options),) = seen
    assert path == "a.gguf"
    assert {name: getattr(options, name) for name in values} == values
    assert options.max_num_tokens == 600


def test_a_fork_is_told_that_it_has_no_engine(llm: LLM, model: FakeModel) -> None:
    model.close_gate()
    begun = llm.stream("There was", params(30))
    wait_for(lambda: model.gate.has_come)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # what waits for ever ends by it
        refused = 0
        for call in (lambda: llm.generate("a", params()), lambda: next(begun)):
            try:
                call()
            except UnavailableError as error:
                refused += "a fork has none of its threads" in str(error)
        begun.close()
        llm.close()
        os._exit(refused)
    status = os.waitpid(child, 0)[1]
    model.gate.open()
    assert os.waitstatus_to_exitcode(status) == 2
    assert list(begun)[-1].finish_reason == "length"
