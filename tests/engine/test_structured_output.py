"""Requests that name a grammar, from LLM down to the embedded model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from llguidance import LLParserLimits

from rocmforge.engine import LLM, SamplingParams
from rocmforge.engine import grammar as grammar_module
from rocmforge.errors import InvalidArgumentError

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(max_model_len=256, max_num_seqs=8, threads=1, deterministic=True) as llm:
        yield llm


def test_a_schema_is_followed_at_any_temperature(llm: LLM) -> None:
    params = [
        SamplingParams(json_schema=SCHEMA, temperature=t, seed=i, max_tokens=200, top_k=0)
        for i, t in enumerate([0.0, 0.5, 1.0, 2.0, 1.0, 1.0])
    ]
    for output in llm.generate(["Once upon a time"] * 6, params):
        assert (output.finish_reason, output.error) == ("stop", None)
        value = json.loads(output.text)
        assert set(value) == {"name", "age", "tags"}
        assert len(value["name"]) <= 12
        assert 0 <= value["age"] <= 99
        assert len(value["tags"]) <= 3
        assert set(value["tags"]) <= {"a", "b"}


@pytest.mark.parametrize(
    ("params", "pattern"),
    [
        ({"regex": r"(cat|dog)( and (cat|dog)){1,3}\."}, r"(cat|dog)( and (cat|dog)){1,3}\."),
        ({"grammar": 'start: "(" word ")"\nword: "cat" | /[0-9]{3}/'}, r"\((cat|[0-9]{3})\)"),
    ],
)
def test_a_finished_grammar_ends_the_request(
    llm: LLM, params: dict[str, str], pattern: str
) -> None:
    sampling = SamplingParams(max_tokens=60, seed=1, ignore_eos=True, **params)  # type: ignore[arg-type]
    (output,) = llm.generate("The", sampling)
    assert output.finish_reason == "stop"
    assert re.fullmatch(pattern, output.text)


def test_the_token_limit_cuts_a_grammar_short(llm: LLM) -> None:
    (output,) = llm.generate("The", SamplingParams(regex="[a-z ]{500}", max_tokens=5, seed=1))
    assert (output.finish_reason, len(output.token_ids)) == ("length", 5)


def test_neighbours_of_a_grammar_draw_what_they_draw_alone(llm: LLM) -> None:
    plain = SamplingParams(max_tokens=24, seed=5)
    (alone,) = llm.generate("Lily and", plain)
    bound = SamplingParams(json_schema=SCHEMA, max_tokens=60, seed=5)
    outputs = llm.generate(["Lily and"] * 4, [bound, plain, bound, plain])
    assert outputs[1].token_ids == outputs[3].token_ids == alone.token_ids
    assert outputs[0].token_ids == outputs[2].token_ids


def test_a_wrong_grammar_is_refused_before_anything_runs(llm: LLM) -> None:
    with pytest.raises(InvalidArgumentError, match="regex cannot be followed"):
        llm.generate("The", SamplingParams(regex="("))
    assert llm.stats().num_running == 0


def test_a_grammar_that_fails_on_the_way_ends_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = LLParserLimits(max_lexer_states=200, verbose_errors=False)
    monkeypatch.setattr(grammar_module, "_LIMITS", limits)
    with LLM(max_model_len=256, max_num_seqs=4, threads=1) as llm:
        bound = SamplingParams(regex="[a-z ]*a[a-z ]{20}", max_tokens=100, seed=1)
        plain = SamplingParams(max_tokens=20, seed=1, ignore_eos=True)
        failed, other = llm.generate(["The", "The"], [bound, plain])
        assert failed.finish_reason == "error"
        assert isinstance(failed.error, InvalidArgumentError)
        assert "the grammar has failed" in str(failed.error)
        assert (other.finish_reason, len(other.token_ids)) == ("length", 20)
