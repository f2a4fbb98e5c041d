"""OpenAI's own client against a real server."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from served import SMALL, Served, events_of, serving

from rocmforge.engine.llm import LLM
from rocmforge.engine.output import RequestOutput
from rocmforge.engine.sampling import SamplingParams

MODEL = "stories-14m-Q4_K_M"
PROMPT = "Once upon a time"
CHAT: list[Any] = [{"role": "user", "content": "Once upon a time there was"}]


@pytest.fixture(scope="module")
def llm() -> Any:
    with LLM(max_model_len=512, memory_fraction=0.05, threads=1) as llm:
        yield llm


def greedy(llm: LLM, prompt: str, **params: Any) -> RequestOutput:
    return llm.generate(prompt, SamplingParams(temperature=0, **params))[0]


def test_the_model_is_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt=PROMPT)


def test_a_completion_is_what_the_engine_gives_in_process(client: openai.OpenAI, llm: LLM) -> None:
    expected = greedy(llm, PROMPT, max_tokens=40)
    got = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=40, temperature=0)
    assert got.choices[0].text == expected.text
    assert got.choices[0].finish_reason == expected.finish_reason == "length"
    assert got.usage is not None
    assert got.usage.prompt_tokens == len(expected.prompt_token_ids)
    assert got.usage.completion_tokens == len(expected.token_ids) == 40
    assert got.usage.total_tokens == got.usage.prompt_tokens + 40


def test_a_streamed_completion_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 30, "seed": 7}
    whole = client.completions.create(**settings, n=2, logprobs=2)
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(**settings, n=2, logprobs=2, stream=True, stream_options=options)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    alone = client.completions.create(**settings)
    assert alone.usage is not None
    assert whole.usage.prompt_tokens == alone.usage.prompt_tokens  # once, whatever n
    for choice in whole.choices:
        pieces = [c.choices[0] for c in chunks[:-1] if c.choices[0].index == choice.index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [p.finish_reason for p in pieces if p.finish_reason] == [choice.finish_reason]
        tokens = [t for p in pieces if p.logprobs for t in p.logprobs.tokens or []]
        assert choice.logprobs is not None
        assert tokens == choice.logprobs.tokens
        assert "".join(tokens) == choice.text
        offsets = choice.logprobs.text_offset or []
        assert all(
            choice.text.startswith(token, offset)
            for token, offset in zip(tokens, offsets, strict=True)
        )
    assert whole.choices[0].text != whole.choices[1].text


def test_the_same_seed_gives_the_same_text_and_another_seed_another(client: openai.OpenAI) -> None:
    texts = [
        client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=30, seed=seed)
        .choices[0]
        .text
        for seed in (11, 11, 12)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_come_as_texts_or_as_token_ids(client: openai.OpenAI, llm: LLM) -> None:
    ids = llm.tokenizer.encode(PROMPT, add_special=True)
    prompts: list[Any] = [PROMPT, [PROMPT, "The sea"], ids, [ids, ids[:3]]]
    firsts = []
    for prompt in prompts:
        got = client.completions.create(model=MODEL, prompt=prompt, max_tokens=8, temperature=0)
        firsts.append(got.choices[0].text)
        assert [choice.index for choice in got.choices] == list(range(len(got.choices)))
    assert len(set(firsts)) == 1
    assert len(got.choices) == 2


def test_echo_puts_the_prompt_before_the_text(client: openai.OpenAI) -> None:
    for stream in (False, True):
        got = client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=4, temperature=0, echo=True, stream=stream
        )
        parts = list(got) if stream else [got]
        assert "".join(p.choices[0].text for p in parts).startswith(PROMPT + " ")


def test_logprobs_with_echo_are_those_of_the_prompts_logits(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL, "--deterministic") as served:
        settings = {"max_model_len": 512, "memory_fraction": 0.05, "threads": 1}
        url = f"{served.url}/v1"
        with (
            LLM(**settings, deterministic=True) as llm,  # type: ignore[arg-type]
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            check_logprobs_with_echo(client, llm)


def check_logprobs_with_echo(client: openai.OpenAI, llm: LLM) -> None:
    prompt = " ".join(["Once upon a time there was a king, and he"] * 9)
    ids = llm.tokenizer.encode(prompt, add_special=True)
    assert len(ids) > 64  # more than a step computes
    rows = llm.logits(ids).astype(np.float64)
    exact = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for asked in (prompt, ids):
        got = client.completions.create(
            model=MODEL, prompt=asked, max_tokens=3, temperature=0, echo=True, logprobs=2, n=2
        )
        assert [choice.index for choice in got.choices] == [0, 1]
        for choice in got.choices:
            found = choice.logprobs
            assert found is not None
            columns = [found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset]
            assert all(column is not None and len(column) == len(ids) + 3 for column in columns)
            assert found.token_logprobs[0] is None
            assert found.top_logprobs[0] is None
            expected = [exact[i, ids[i + 1]] for i in range(len(ids) - 1)]
            assert found.token_logprobs[1 : len(ids)] == pytest.approx(expected, abs=1e-5)
            for i, top in enumerate(found.top_logprobs[1 : len(ids)]):
                best = np.sort(exact[i])[::-1][:2]
                assert sorted(top.values(), reverse=True) == pytest.approx(best.tolist(), abs=1e-5)
            assert choice.text.startswith(prompt)
            for text, offset in list(zip(found.tokens, found.text_offset, strict=True))[2:]:
                assert choice.text[offset : offset + len(text)] == text


def test_a_streamed_echo_with_logprobs_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    body: dict[str, Any] = {
        "model": MODEL,
        "prompt": [PROMPT, "The sea"],
        "max_tokens": 3,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }
    whole = client.completions.create(**body).choices
    for choice in whole:
        assert choice.logprobs is not None
        parts = [p.choices[0] for p in client.completions.create(**body, stream=True)]
        own = [part for part in parts if part.index == choice.index]
        assert "".join(part.text for part in own) == choice.text
        told = [part.logprobs for part in own if part.logprobs is not None]
        for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            pieces = [value for part in told for value in getattr(part, name)]
            assert pieces == getattr(choice.logprobs, name), name


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI, llm: LLM) -> None:
    expected = greedy(llm, PROMPT, max_tokens=60, stop=(" King",))
    assert expected.finish_reason == "stop"
    for stream in (False, True):
        got = client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=60, temperature=0, stop=" King", stream=stream
        )
        parts = list(got) if stream else [got]
        assert "".join(p.choices[0].text for p in parts) == expected.text
        assert parts[-1].choices[0].finish_reason == "stop"


def test_a_logit_bias_forces_and_bans_tokens(client: openai.OpenAI, llm: LLM) -> None:
    free = greedy(llm, PROMPT, max_tokens=1).token_ids[0]
    for bias, is_drawn in ((100, True), (-100, False)):
        got = client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=5, temperature=0, logit_bias={str(free): bias}
        )
        forced = llm.tokenizer.decode([free] * 5)
        assert (got.choices[0].text.strip() == forced.strip()) is is_drawn


def test_penalties_change_what_is_drawn(client: openai.OpenAI) -> None:
    texts = {
        client.completions.create(
            model=MODEL, prompt="the the the the", max_tokens=20, temperature=0, **extra
        )
        .choices[0]
        .text
        for extra in (
            {},
            {"frequency_penalty": 2.0},
            {"extra_body": {"repetition_penalty": 5.0}},
        )
    }
    assert len(texts) == 3


def test_a_chat_is_written_with_the_files_template(client: openai.OpenAI, llm: LLM) -> None:
    expected = llm.chat(CHAT, SamplingParams(temperature=0, max_tokens=20))[0]
    got = client.chat.completions.create(
        model=MODEL, messages=CHAT, temperature=0, max_completion_tokens=20, logprobs=True,
        top_logprobs=3,
    )  # fmt: skip
    choice = got.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == expected.text
    assert choice.logprobs is not None
    entries = choice.logprobs.content or []
    assert [bytes(e.bytes or []) for e in entries] == [
        llm.tokenizer.token_bytes(i) for i in expected.token_ids
    ]
    assert all(e.logprob == e.top_logprobs[0].logprob for e in entries)
    assert all(len(e.top_logprobs) == 3 for e in entries)


def test_a_streamed_chat_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {"model": MODEL, "messages": CHAT, "max_tokens": 25, "seed": 5}
    whole = client.chat.completions.create(**settings)
    chunks = list(client.chat.completions.create(**settings, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)


def test_without_a_limit_a_chat_goes_on_to_the_end_of_the_context(client: openai.OpenAI) -> None:
    got = client.chat.completions.create(
        model=MODEL, messages=CHAT, temperature=0, extra_body={"ignore_eos": True}
    )
    assert got.usage is not None
    assert got.usage.total_tokens == 512
    assert got.choices[0].finish_reason == "length"


def test_each_of_ten_turns_of_a_chat_computes_the_new_turn_alone(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "The sea was calm and the boat was old. " * 8}]
    cached = []
    for _ in range(10):
        got = client.chat.completions.create(
            model=MODEL, messages=messages, max_tokens=8, temperature=0  # type: ignore[arg-type]
        )  # fmt: skip
        assert got.usage is not None
        assert got.usage.prompt_tokens_details is not None
        cached.append((got.usage.prompt_tokens_details.cached_tokens, got.usage.prompt_tokens))
        messages.append({"role": "assistant", "content": got.choices[0].message.content or ""})
        messages.append({"role": "user", "content": "And then?"})
    assert cached[0][0] == 0
    for (_, before), (found, _) in itertools.pairwise(cached):
        assert found is not None
        assert before - 16 < found


SCHEMA = {
    "type": "object",
    "properties": {"size": {"enum": ["small", "large"]}, "old": {"type": "boolean"}},
    "required": ["size", "old"],
    "additionalProperties": False,
}


def test_a_json_schema_is_followed(client: openai.OpenAI) -> None:
    for stream in (False, True):
        got: Any = client.chat.completions.create(
            model=MODEL,
            messages=CHAT,
            seed=1,
            stream=stream,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "cat", "schema": SCHEMA, "strict": True},
            },
        )
        text = got.choices[0].message.content if not stream else None
        text = text or "".join(chunk.choices[0].delta.content or "" for chunk in got)
        value = json.loads(text)
        assert set(value) == {"size", "old"}


def test_any_json_object_a_regex_and_a_grammar_are_followed(client: openai.OpenAI) -> None:
    def chat(**extra: Any) -> str:
        got = client.chat.completions.create(model=MODEL, messages=CHAT, seed=3, **extra)
        return got.choices[0].message.content or ""

    assert chat(extra_body={"regex": "[0-9]{3}-[ab]"})[3] == "-"
    assert chat(extra_body={"grammar": 'start: "yes" | "no"'}) in ("yes", "no")
    begun = chat(response_format={"type": "json_object"}, max_tokens=20)
    assert begun.startswith("{")


def test_a_schema_that_cannot_be_followed_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="json_schema cannot be followed"):
        client.chat.completions.create(
            model=MODEL,
            messages=CHAT,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "nonsense"}},
            },
        )


def test_a_forced_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": SCHEMA}}
        for name in ("find_cat", "find_dog")
    ]
    named = {"type": "function", "function": {"name": "find_dog"}}
    for choice in (named, "required"):
        got = client.chat.completions.create(
            model=MODEL, messages=CHAT, tools=tools, tool_choice=choice, seed=4  # type: ignore[arg-type]
        )  # fmt: skip
        assert got.choices[0].finish_reason == "tool_calls"
        (call,) = got.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.name in ("find_cat", "find_dog")
        if choice == named:
            assert call.function.name == "find_dog"
        assert set(json.loads(call.function.arguments)) == {"size", "old"}
        chunks = client.chat.completions.create(
            model=MODEL, messages=CHAT, tools=tools, tool_choice=choice, seed=4, stream=True  # type: ignore[arg-type]
        )  # fmt: skip
        calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
        assert [c.function and c.function.name for c in calls] == [call.function.name]
        arguments = [c.function.arguments or "" for c in calls if c.function]
        assert "".join(arguments) == call.function.arguments


def test_embeddings_are_the_engines_scaled_to_length_1(client: openai.OpenAI, llm: LLM) -> None:
    texts = ["The king had a daughter.", "The sea was grey. " * 50]
    expected = llm.embed(texts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = client.embeddings.create(model=MODEL, input=texts)  # asks for base64
    vectors = np.array([item.embedding for item in got.data])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Cosines: another number of rows in a step may mean another family of kernels.
    assert np.all(np.sum(vectors * expected, axis=1) > 0.999)
    assert vectors[0] @ vectors[1] < 0.99
    assert [item.index for item in got.data] == [0, 1]
    floats = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float")
    assert np.dot(floats.data[0].embedding, vectors[0]) > 0.999
    ids = llm.tokenizer.encode(texts[0], add_special=True)
    by_ids = client.embeddings.create(model=MODEL, input=ids)
    assert by_ids.usage.prompt_tokens == len(ids)
    assert np.dot(by_ids.data[0].embedding, vectors[0]) > 0.999


def test_two_clients_at_once_get_what_each_gets_alone(server: Served, client: Any) -> None:
    prompts = ["The king said", "A little fish swam"]
    alone = [
        client.completions.create(model=MODEL, prompt=p, max_tokens=60, temperature=0)
        for p in prompts
    ]
    body = {"max_tokens": 60, "temperature": 0, "stream": True}
    streams = [
        httpx.stream("POST", f"{server.url}/v1/completions", json={**body, "prompt": p})
        for p in prompts
    ]
    with streams[0] as first, streams[1] as second:
        texts = []
        for response in (second, first):
            events = events_of(response.read().decode())
            assert events[-1] == "[DONE]"
            texts.append("".join(e["choices"][0]["text"] for e in events[:-1]))
    assert texts[::-1] == [got.choices[0].text for got in alone]
