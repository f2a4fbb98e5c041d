"""What callers of LLM and AsyncLLM give: one of a kind or several, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import InvalidArgumentError

Prompt = str | Sequence[int]  # text, or token ids taken as they are
Messages = Sequence[Mapping[str, Any]]


def prompt_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several: a sequence of numbers is one prompt of token ids."""
    if isinstance(prompts, str):
        return [prompts]
    _check_list("the prompt", prompts, "a text, a list of token ids, or a list of these")
    if any(not isinstance(p, str | Sequence) for p in prompts):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def check_prompt(prompt: Prompt) -> None:
    if not isinstance(prompt, str):
        _check_list("the prompt", prompt, "a text or a list of token ids")


def conversation_list(messages: Messages | Sequence[Messages]) -> list[Messages]:
    """One conversation or several: a message is a mapping."""
    _check_list("messages", messages, _CONVERSATION)
    if any(isinstance(message, Mapping) for message in messages):
        return [messages]  # type: ignore[list-item]
    return list(messages)  # type: ignore[arg-type]


def check_conversation(messages: Messages) -> None:
    """What a message holds besides its role is the template's business."""
    _check_list("messages", messages, _CONVERSATION)
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            msg = f"message {index} is {_shown(message)}; it must be {_MESSAGE}"
            raise InvalidArgumentError(msg)


def params_list(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams]:
    """The same for all `count` prompts, or one each."""
    if params is None or isinstance(params, SamplingParams):
        return [params or SamplingParams()] * count
    _check_list("params", params, "SamplingParams, or a list of them")
    if len(params) != count:
        msg = f"{len(params)} sampling parameters for {count} prompts"
        raise InvalidArgumentError(msg)
    for given in params:
        check_params(given)
    return list(params)


def check_params(params: SamplingParams) -> None:
    if not isinstance(params, SamplingParams):
        msg = f"params is {_shown(params)}; it must be SamplingParams"
        raise InvalidArgumentError(msg)


_MESSAGE = 'a mapping such as {"role": "user", "content": "Hello"}'
_CONVERSATION = f"a list of messages, each {_MESSAGE}"


def _check_list(name: str, value: object, must: str) -> None:
    """Not bytes or a mapping either, whose items are something else than was meant."""
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence | np.ndarray):
        msg = f"{name} is {_shown(value)}; it must be {must}"
        raise InvalidArgumentError(msg)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
