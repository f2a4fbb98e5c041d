"""SamplingParams: defaults, what is refused and with which words, what it turns into."""

from __future__ import annotations

import dataclasses
import decimal
import types
from typing import Any

import numpy as np
import pytest

from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import InvalidArgumentError


def test_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(SamplingParams()) == {
        "max_tokens": 128,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": None,
        "stop": (),
        "logit_bias": {},
        "logprobs": None,
        "ignore_eos": False,
        "json_schema": None,
        "regex": None,
        "grammar": None,
    }


def test_params_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingParams().temperature = 1.0  # type: ignore[misc]


WRONG_NUMBERS = ["1", None, [1], {}, b"1", True, False, float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", [*WRONG_NUMBERS, 1.0, decimal.Decimal(1), 10**30, -(10**30)])
@pytest.mark.parametrize("name", ["max_tokens", "top_k", "seed", "logprobs"])
def test_integers_must_be_integers_of_their_range(name: str, value: object) -> None:
    if value is None and name in ("seed", "logprobs"):
        return
    with pytest.raises(InvalidArgumentError, match=f"^{name} is .*; it must be an integer from"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [*WRONG_NUMBERS, 1j, decimal.Decimal(1), -3, 10**400])
@pytest.mark.parametrize(
    "name",
    [
        "temperature",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
    ],
)
def test_reals_must_be_finite_numbers_of_their_range(name: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{name} is .*; it must be a finite number"):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("max_tokens", [1, 2**31 - 1], [0, -1, 2**31]),
        ("temperature", [0, 100], [-1e-9, 100.1]),
        ("top_k", [-1, 0, 1, 2**31 - 1, -(2**31) + 1], [2**31, -(2**31)]),
        ("top_p", [0, 1, 1.5, 1e300], [-1e-9]),
        ("min_p", [0, 1], [-1e-9, 1.001]),
        ("repetition_penalty", [0.01, 100], [0, -1, 0.0099, 101]),
        ("presence_penalty", [-2, 2], [-2.1, 2.1]),
        ("frequency_penalty", [-2, 2], [-2.1, 2.1]),
        ("seed", [0, -1, -(2**63), 2**64 - 1], [-(2**63) - 1, 2**64]),
        ("logprobs", [0, 20], [-1, 21]),
    ],
)
def test_bounds_are_inclusive(name: str, inside: list[float], outside: list[float]) -> None:
    for value in inside:
        assert getattr(SamplingParams(**{name: value}), name) == value  # type: ignore[arg-type]
    for value in outside:
        with pytest.raises(InvalidArgumentError, match=name):
            SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_numbers_of_other_types_become_plain_ones() -> None:
    params = SamplingParams(
        max_tokens=np.int64(5), temperature=1, top_p=np.float32(0.5), logit_bias={np.int32(3): 2}
    )
    assert type(params.max_tokens) is int
    assert type(params.temperature) is float
    assert type(params.top_p) is float
    assert [(type(k), type(v)) for k, v in params.logit_bias.items()] == [(int, float)]


@pytest.mark.parametrize("ignore_eos", [1, 0, None, "yes"])
def test_ignore_eos_must_be_a_bool(ignore_eos: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ignore_eos"):
        SamplingParams(ignore_eos=ignore_eos)


def test_one_stop_string_may_stand_for_a_list() -> None:
    assert SamplingParams(stop="end").stop == ("end",)
    assert SamplingParams(stop=["a", "b"]).stop == ("a", "b")
    assert SamplingParams(stop=["\u00e9" * 128] * 16).stop[15] == "\u00e9" * 128


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ("", r"stop\[0\] is ''"),
        (["a", ""], r"stop\[1\] is ''"),
        ([3], r"stop\[0\] is 3"),
        (None, "stop is None"),
        (b"end", "stop is b'end'"),
        ({"a"}, "stop is {'a'}"),
        (3, "stop is 3"),
        (["a"] * 17, "stop has 17 entries; it must have up to 16"),
        (["\u00e9" * 129], r"stop\[0\] has 258 bytes; the limit is 256"),
        (["a\ud800"], r"stop\[0\] is not valid Unicode"),
    ],
)
def test_stop_strings_are_checked(stop: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SamplingParams(stop=stop)


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (None, "logit_bias is None"),
        ([(1, 2)], "logit_bias is "),
        ({"1": 2}, "a token id of logit_bias is '1'"),
        ({True: 2}, "a token id of logit_bias is True"),
        ({-1: 2}, "a token id of logit_bias is -1"),
        ({2**31: 2}, "a token id of logit_bias is 2147483648"),
        ({1: "2"}, r"logit_bias\[1\] is '2'"),
        ({1: float("nan")}, r"logit_bias\[1\] is nan"),
        ({1: 100.5}, r"logit_bias\[1\] is 100.5; it must be a finite number from -100 to 100"),
        ({1: False}, r"logit_bias\[1\] is False"),
        (dict.fromkeys(range(1025), 0), "logit_bias has 1025 entries; it must have up to 1024"),
    ],
)
def test_logit_bias_is_checked(bias: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SamplingParams(logit_bias=bias)


def test_logit_bias_is_a_copy() -> None:
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=types.MappingProxyType(bias))
    bias[1] = 50.0
    assert params.logit_bias == {1: 2.0}
    assert len(SamplingParams(logit_bias=dict.fromkeys(range(1024), 100)).logit_bias) == 1024


def test_a_schema_is_kept_as_text() -> None:
    assert SamplingParams(json_schema={"type": "object"}).json_schema == '{"type": "object"}'
    assert SamplingParams(json_schema='{"a": 1}').json_schema == '{"a": 1}'


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"json_schema": "{}", "regex": "a"}, "json_schema and regex exclude each other"),
        ({"regex": "", "grammar": ""}, "regex and grammar exclude each other"),
        ({"json_schema": 3}, "json_schema is 3; it must be a string"),
        ({"regex": b"a"}, "regex is b'a'; it must be a string"),
        ({"grammar": ["start: x"]}, "grammar is .*; it must be a string"),
        ({"json_schema": {"a": {1, 2}}}, "json_schema cannot be written as JSON"),
        ({"json_schema": {"a": float("nan")}}, "json_schema cannot be written as JSON"),
        ({"json_schema": "x" * (512 * 1024 + 1)}, "524289 bytes; the limit is 524288"),
        ({"json_schema": {"a": "\u00e9" * 300_000}}, "json_schema has 6000.. bytes"),
        ({"grammar": "x" * (256 * 1024 + 1)}, "grammar has 262145 bytes; the limit is 262144"),
        ({"regex": "x" * (256 * 1024 + 1)}, "regex has 262145 bytes"),
        ({"regex": "\udfff"}, "regex is not valid Unicode"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_structured_output_is_checked(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SamplingParams(**params)


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(InvalidArgumentError, match="json_schema cannot be written as JSON"):
        SamplingParams(json_schema=schema)


def test_a_grammar_of_any_kind_makes_params_structured() -> None:
    assert not SamplingParams().is_structured
    for name in ("json_schema", "regex", "grammar"):
        assert SamplingParams(**{name: ""}).is_structured


def test_an_error_does_not_repeat_a_huge_value() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SamplingParams(temperature="9" * 100_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
