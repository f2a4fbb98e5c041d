from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_session import FakeModel, fake_model, wait_for

from rocmforge.engine import EngineConfig, InferenceEngine, RequestState
from rocmforge.engine import inference_engine as module
from rocmforge.errors import (
    DeviceError,
    InvalidArgumentError,
    UnavailableError,
)


@pytest.fixture
def model() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


@pytest.fixture
def engine(model: FakeModel) -> Iterator[InferenceEngine]:
    with InferenceEngine(EngineConfig(max_num_seqs=2)) as engine:
        engine.load_gguf_model("fake.gguf")
        engine.start()
        yield engine
        model.gate.open()


def state(engine: InferenceEngine, request_id: int) -> RequestState:
    status = engine.get_request_status(request_id)
    assert status is not None
    return status.state


def test_a_request_goes_from_waiting_to_finished(engine: InferenceEngine, model: FakeModel) -> None:
    model.close_gate()
    ids = [engine.submit_request([1, 2], 6, 1.0, 0, 1.0, seed=3) for _ in range(3)]
    wait_for(lambda: state(engine, ids[0]) is RequestState.RUNNING)
    assert state(engine, ids[2]) is RequestState.WAITING
    model.gate.open()
    wait_for(lambda: all(state(engine, i) is RequestState.FINISHED for i in ids))
    status = engine.get_request_status(ids[2])
    assert status is not None
    assert status.generated_tokens == model.expected([1, 2], 3, 6)
    assert (status.prompt_tokens, status.finish_reason) == ([1, 2], "length")
    assert (status.params.max_tokens, status.params.top_k) == (6, 0)
    assert engine.get_engine_stats().num_output_tokens == 18


def test_a_request_can_be_cancelled_while_it_runs(
    engine: InferenceEngine, model: FakeModel
) -> None:
    model.close_gate()
    request_id = engine.submit_request([1, 2], max_tokens=50)
    model.gate.let_through(3)
    engine.cancel_request(request_id)
    model.gate.open()
    wait_for(lambda: state(engine, request_id) is RequestState.CANCELLED)
    engine.cancel_request(request_id)
    engine.cancel_request(12345)


def test_a_failed_request_tells_why(engine: InferenceEngine, model: FakeModel) -> None:
    model.decoder.is_bad = lambda seed: seed == 13
    request_id = engine.submit_request([1, 2], seed=13)
    wait_for(lambda: state(engine, request_id) is RequestState.FAILED)
    status = engine.get_request_status(request_id)
    assert status is not None
    assert isinstance(status.error, DeviceError)


def test_an_unknown_id_has_no_status(engine: InferenceEngine) -> None:
    assert engine.get_request_status(99) is None


def test_old_ended_requests_are_forgotten(
    engine: InferenceEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENDED_KEPT", 2)
    ids = []
    for _ in range(5):
        ids.append(engine.submit_request([1, 2], max_tokens=1))
        wait_for(lambda: engine.get_engine_stats().num_finished["length"] == len(ids))
    wait_for(lambda: engine.get_request_status(ids[2]) is None)
    assert [engine.get_request_status(i) is not None for i in ids] == [False] * 3 + [True] * 2


def test_a_refused_request_leaves_no_status(engine: InferenceEngine) -> None:
    with pytest.raises(InvalidArgumentError, match="70 tokens"):
        engine.submit_request([1] * 70)
    with pytest.raises(InvalidArgumentError, match="temperature"):
        engine.submit_request([1], temperature=-1.0)
    assert not engine._records._records


def test_what_needs_a_model_or_a_start_says_so(model: FakeModel) -> None:  # noqa: ARG001
    engine = InferenceEngine()
    for call in (engine.start, engine.get_engine_stats, lambda: engine.submit_request([1])):
        with pytest.raises(UnavailableError, match="no model is loaded"):
            call()
    assert engine.get_request_status(1) is None
    engine.load_gguf_model("fake.gguf")
    with pytest.raises(UnavailableError, match="not been started"):
        engine.submit_request([1])
    with pytest.raises(InvalidArgumentError, match="loaded already"):
        engine.load_gguf_model("fake.gguf")
    engine.start()
    engine.submit_request([1])
    engine.close()
    with pytest.raises(UnavailableError, match="closed"):
        engine.submit_request([1])


def test_threads_submit_ask_and_cancel_at_once(engine: InferenceEngine, model: FakeModel) -> None:
    final = {RequestState.FINISHED, RequestState.CANCELLED}

    def client(number: int) -> None:
        for i in range(20):
            request_id = engine.submit_request([number, i + 1], max_tokens=5, seed=number)
            if i % 4 == 0:
                engine.cancel_request(request_id)
            wait_for(lambda request_id=request_id: state(engine, request_id) in final)
            status = engine.get_request_status(request_id)
            assert status is not None
            tokens = model.expected([number, i + 1], number, 5)
            assert status.generated_tokens == tokens[: len(status.generated_tokens)]
            assert status.generated_tokens == tokens or status.state is RequestState.CANCELLED

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    assert sum(engine.get_engine_stats().num_finished.values()) == 80
