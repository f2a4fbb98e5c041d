"""Tokens drawn on the emulated GPU, a step ahead of who reads them: those that the CPU draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from rocmforge import SamplingParams
from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Event, Finished, Submit, TokenEvent
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

VOCAB_SIZE = 515
HOW: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 3},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "seed": 4},
    {"temperature": 1.5, "top_k": 0, "top_p": 0.9, "min_p": 0.01, "seed": 5},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "m.gguf"
    return write_tiny_model(path, "llama", "Q4_K_M", head_dim=64)


def generate(path: Path, device: str, params: list[SamplingParams]) -> tuple[list[list[int]], Any]:
    """Tokens of each request, all submitted at once, and the decoder that drew them."""
    options = LoadOptions(device=device, max_num_seqs=len(params), max_num_tokens=16, threads=1)
    decoder = load_model(path, options).decoder
    tokens: list[list[int]] = [[] for _ in params]

    def publish(events: list[Event]) -> None:
        for event in events:
            if isinstance(event, TokenEvent):
                tokens[event.request_id].append(event.token_id)
            elif isinstance(event, Finished):
                assert event.error is None

    config = SchedulerConfig(max_num_batched_tokens=16, max_num_seqs=len(params))
    engine = Engine(decoder, config, publish)
    rng = np.random.default_rng(0)
    for i, how in enumerate(params):
        engine.submit(Submit(i, rng.integers(0, VOCAB_SIZE, 5 + 4 * i).tolist(), how))
    while engine.step():
        pass
    return tokens, decoder


def params(**more: Any) -> list[SamplingParams]:
    return [
        SamplingParams(**how, **more, max_tokens=7 + i, ignore_eos=True)
        for i, how in enumerate(HOW)
    ]


@pytest.mark.parametrize("device", ["host:1", "host:2"])
def test_who_draws_changes_no_token(model: Path, device: str) -> None:
    """Log-probabilities make the CPU draw; devices 2 and 3 report what is read too late."""
    got, decoder = generate(model, device, params())
    assert [len(tokens) for tokens in got] == [7, 8, 9, 10]
    assert decoder.lookahead == 1
    assert decoder.num_device_draws > 7
    wanted, decoder = generate(model, device, params(logprobs=0))
    assert got == wanted
    assert decoder.num_device_draws == 0


def test_steps_that_the_cpu_draws_take_turns_with_others(model: Path) -> None:
    """A penalty needs the CPU and the last id; its request ends before the others."""
    mixed = params()
    mixed[1] = SamplingParams(temperature=0.0, presence_penalty=1.5, max_tokens=4, ignore_eos=True)
    got, decoder = generate(model, "host:0", mixed)
    assert 0 < decoder.num_device_draws < 12
    alone = [generate(model, "host:0", [mixed[1]])[0][0]]
    assert len(got[1]) == 4
    assert [len(tokens) for tokens in alone] == [4]
    others, _ = generate(model, "host:0", params())
    assert [got[i] for i in (0, 2, 3)] == [others[i] for i in (0, 2, 3)]


def test_a_request_that_ends_takes_its_step_ahead_with_it(model: Path) -> None:
    (tokens,), _ = generate(model, "host:0", [SamplingParams(temperature=0.0, max_tokens=9)])
    stopped = SamplingParams(temperature=0.0, max_tokens=1)
    (first,), decoder = generate(model, "host:0", [stopped])
    assert first == tokens[:1]
    assert decoder.num_device_draws <= 2


def test_one_launch_draws_greedy_rows_and_two_the_others(model: Path) -> None:
    def launches(how: SamplingParams) -> int:
        _, decoder = generate(model, "host:0", [how])
        return int(decoder.num_launches)

    greedy = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)
    random = SamplingParams(temperature=1.0, seed=1, max_tokens=6, ignore_eos=True)
    asked = SamplingParams(temperature=0.0, logprobs=0, max_tokens=6, ignore_eos=True)
    drawn_on_cpu = launches(asked)
    assert launches(greedy) == drawn_on_cpu + 6
    assert launches(random) == drawn_on_cpu + 12
