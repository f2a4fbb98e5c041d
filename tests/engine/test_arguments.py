"""What callers get wrong is told as such, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_session import fake_model

from rocmforge.engine import LLM, EngineConfig, SamplingParams
from rocmforge.errors import InvalidArgumentError
from rocmforge.model.loader import open_model
from rocmforge.model.options import LoadOptions

FEW = SamplingParams(max_tokens=2)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with fake_model(), LLM() as llm:
        yield llm


@pytest.mark.parametrize("prompts", [5, None, b"text", {"a": 1}, iter("ab"), [["a"]], [1, "a"]])
def test_what_is_no_prompt_is_refused(llm: LLM, prompts: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="prompt"):
        llm.generate(prompts, FEW)


@pytest.mark.parametrize("prompt", [5, None, b"text", {"a": 1}, iter("ab")])
def test_a_stream_and_an_embedding_refuse_it_too(llm: LLM, prompt: Any) -> None:
    for call in (llm.stream, llm.embed):
        with pytest.raises(InvalidArgumentError, match="the prompt is"):
            call(prompt)


def test_token_ids_may_be_an_array(llm: LLM) -> None:
    (output,) = llm.generate(np.array([5, 6]), FEW)  # type: ignore[arg-type]
    assert output.prompt_token_ids == [5, 6]


@pytest.mark.parametrize("params", [5, {"max_tokens": 2}, "x", [{"max_tokens": 2}]])
def test_what_are_no_sampling_parameters_is_refused(llm: LLM, params: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="SamplingParams"):
        llm.generate("a", params)
    with pytest.raises(InvalidArgumentError, match="SamplingParams"):
        llm.stream("a", params)


USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    "messages", ["hello", USER, None, 5, iter([USER]), ["hello"], [{"content": "hello"}], [USER, 5]]
)
def test_what_is_no_conversation_is_refused(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, messages: Any
) -> None:
    monkeypatch.setattr(llm.tokenizer, "_templates", {"": "{{ messages[0]['content'] }}"})
    assert llm.chat([USER], FEW)[0].error is None
    with pytest.raises(InvalidArgumentError, match="message"):
        llm.chat(messages, FEW)
    with pytest.raises(InvalidArgumentError, match="message"):
        llm.stream_chat(messages, FEW)


def test_half_a_surrogate_pair_in_a_message_is_refused(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm.tokenizer, "_templates", {"": "{{ messages[0]['content'] }}"})
    with pytest.raises(InvalidArgumentError, match="lone surrogate, U\\+D800"):
        llm.chat([{"role": "user", "content": "\ud800"}], FEW)


@pytest.mark.parametrize("config", [EngineConfig, LoadOptions])
@pytest.mark.parametrize(
    "options",
    [
        {"threads": "2"},
        {"threads": True},
        {"threads": 1.5},
        {"max_model_len": "1"},
        {"device": None},
        {"kv_dtype": 3},
        {"memory_fraction": "half"},
        {"deterministic": "yes"},
        {"max_num_seqs": None},
    ],
)
def test_an_option_of_another_type_is_named(config: Any, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(InvalidArgumentError, match=f"^{name} is "):
        config(**options)


def test_numbers_of_other_libraries_are_numbers() -> None:
    config = EngineConfig(threads=np.int64(2), memory_fraction=np.float32(0.5))  # type: ignore[arg-type]
    assert config.load_options().threads == 2


@pytest.mark.parametrize("model", [5, b"model.gguf", ["a"], ""])
def test_what_is_no_path_of_a_model_is_refused(model: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="model"):
        open_model(model)
