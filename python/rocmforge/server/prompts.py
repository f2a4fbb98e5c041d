"""From what a request says to token ids, off the event loop, and the bounds before that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rocmforge.engine.admission import check_predicts
from rocmforge.errors import InvalidArgumentError
from rocmforge.server.errors import RequestError
from rocmforge.server.json_body import parse_json
from rocmforge.server.protocol import ChatRequest, Message
from rocmforge.server.state import ServerState

# No token of a vocabulary in use stands for more bytes of ordinary text on average.
_MAX_BYTES_PER_TOKEN = 64


async def encode_prompts(state: ServerState, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    """Raises RequestError for a text that cannot fit or has no tokens.

    While nothing is taken, it raises what submitting would, without the work.
    """
    with state.encoding():
        for prompt in prompts:
            if isinstance(prompt, str):
                _check_size(state, _num_bytes(prompt))
        return await asyncio.to_thread(lambda: [_encode(state, prompt) for prompt in prompts])


async def encode_chat(state: ServerState, body: ChatRequest, tools: Any) -> list[int]:
    """The conversation, written with the template of the model's file; see encode_prompts()."""
    check_predicts(state.model.is_causal)  # whose file has no template either
    with state.encoding():
        num_bytes = sum(_num_bytes(text) for message in body.messages for text in _texts(message))
        if tools is not None:
            num_bytes += _num_bytes(json.dumps(tools, ensure_ascii=False))
        _check_size(state, num_bytes)
        options: dict[str, Any] = {}
        if body.reasoning_effort is not None:
            options["reasoning_effort"] = body.reasoning_effort
        if body.chat_template_kwargs is not None:
            options |= body.chat_template_kwargs.model_dump(exclude_none=True)
        try:
            return await asyncio.to_thread(
                lambda: state.tokenizer.encode_chat(
                    [_plain(message) for message in body.messages], tools=tools, **options
                )
            )
        except InvalidArgumentError as error:
            raise RequestError(str(error), param="messages") from None


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _check_size(state: ServerState, num_bytes: int) -> None:
    limit = _MAX_BYTES_PER_TOKEN * state.model.max_model_len
    if num_bytes > limit:
        msg = (
            f"a prompt of {num_bytes} bytes cannot fit into a context of "
            f"{state.model.max_model_len} tokens"
        )
        raise RequestError(msg, code="context_length_exceeded")


def _encode(state: ServerState, prompt: str | list[int]) -> list[int]:
    if not isinstance(prompt, str):
        return prompt
    tokenizer = state.tokenizer
    ids = tokenizer.encode(prompt, add_special=True)
    if not ids and tokenizer.bos_id is not None:
        return [tokenizer.bos_id]
    if not ids:
        msg = "the prompt is empty, and the model has no token to begin a text with"
        raise RequestError(msg, param="prompt")
    return ids


def _texts(message: Message) -> Iterator[str]:
    """All that a template could write."""
    content = message.content or ""
    if isinstance(content, str):
        yield content
    else:
        yield from (part.text for part in content)
    yield from (message.reasoning_content or "", message.name or "", message.tool_call_id or "")
    for call in message.tool_calls or []:
        yield from (call.id, call.function.name, call.function.arguments)


def _plain(message: Message) -> dict[str, Any]:
    """As templates expect it: text contents, and the arguments of calls as objects."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": content or ""}
    for name in ("name", "reasoning_content", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            plain[name] = value
    if message.tool_calls is not None:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _arguments(call.function.arguments),
                },
            }
            for call in message.tool_calls
        ]
    return plain


def _arguments(text: str) -> Any:
    try:
        value = parse_json(text.encode())
    except RequestError:
        return text
    return value if isinstance(value, dict) else text
