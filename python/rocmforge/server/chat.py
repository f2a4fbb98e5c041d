"""/v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from rocmforge.engine.output import TextDelta
from rocmforge.server.chat_parser import ChatParser, Piece
from rocmforge.server.completions import checked_max_tokens, note_usage
from rocmforge.server.errors import RequestError
from rocmforge.server.generation import Choice, Generation
from rocmforge.server.json_body import read_body
from rocmforge.server.logprobs import chat_logprobs
from rocmforge.server.openapi import described
from rocmforge.server.prompts import encode_chat
from rocmforge.server.protocol import ChatRequest
from rocmforge.server.retrieval import with_context
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import DONE, event, respond
from rocmforge.server.tool_choice import ToolPlan

# Enough of a prompt's end to tell whether it opens the reasoning.
_NUM_TAIL_TOKENS = 16

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    openapi_extra=described(
        ChatRequest,
        answer={
            "id": str,
            "object": str,
            "created": int,
            "model": str,
            "choices": list,
            "usage": dict,
        },
        also_streams=True,
    ),
)
async def chat_completions(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, ChatRequest)
    starting = _start(state, body, request.state.namespace, request.state.owner)
    return await respond(request, starting, stream=bool(body.stream))


async def _start(state: ServerState, body: ChatRequest, namespace: str, owner: str) -> _Answer:
    state.check_model(body.model)
    if body.top_logprobs is not None and not body.logprobs:
        msg = "top_logprobs needs logprobs to be true"
        raise RequestError(msg, param="top_logprobs")
    plan = ToolPlan.of(body)
    num_top = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = checked_max_tokens(state, body.max_tokens, "max_tokens")
    newer = checked_max_tokens(state, body.max_completion_tokens, "max_completion_tokens")
    limit = newer or max_tokens or state.model.max_model_len
    params = body.sampling_params(limit, num_top, plan.json_schema)
    if body.context is not None:
        messages = await with_context(state, owner, namespace, body.context, body.messages)
        body = body.model_copy(update={"messages": messages})
    prompt = await encode_chat(state, body, plan.for_template)
    n = body.n or 1
    shown = plan.shown_ids(state.tokenizer)
    generation = await Generation.start(state, [prompt], params, n, namespace, shown)
    tail = state.tokenizer.decode(prompt[-_NUM_TAIL_TOKENS:], skip_special=False)
    is_thinking = tail.rstrip().endswith("<think>") and not params.is_structured
    parsers = [
        ChatParser(plan.parser(), may_think=not params.is_structured, is_thinking=is_thinking)
        for _ in range(n)
    ]
    return _Answer(state, generation, parsers, num_top, body.wants_usage)


class _Answer:
    """One answer to the client, whole or in pieces."""

    def __init__(
        self,
        state: ServerState,
        generation: Generation,
        parsers: list[ChatParser],
        num_top: int | None,
        wants_usage: bool,
    ) -> None:
        self._state = state
        self._generation = generation
        self._parsers = parsers
        self._num_top = num_top
        self._wants_usage = wants_usage
        self._num_calls = [0] * len(parsers)
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self, request: Request) -> dict[str, Any]:
        num_choices = len(self._parsers)
        messages: list[dict[str, Any]] = [
            {"role": "assistant", "content": ""} for _ in self._parsers
        ]
        logprobs: list[list[Any]] = [[] for _ in range(num_choices)]
        reasons: list[str | None] = [None] * num_choices
        async with aclosing(self._generation.deltas()) as deltas:
            async for choice, delta in deltas:
                addition, reasons[choice.index] = self._read(choice, delta)
                _extend(messages[choice.index], addition)
                if self._num_top is not None:
                    found = chat_logprobs(self._state.tokenizer, delta, self._num_top)
                    logprobs[choice.index] += found["content"]
        for message in messages:
            for call in message.get("tool_calls", []):
                del call["index"]
            if "tool_calls" in message:
                message["content"] = message["content"] or None
        choices = [
            {
                "index": i,
                "message": messages[i],
                "logprobs": None if self._num_top is None else {"content": logprobs[i]},
                "finish_reason": reasons[i],
            }
            for i in range(num_choices)
        ]
        usage = note_usage(request, self._generation)
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        head = self._head("chat.completion.chunk")
        extra = {"usage": None} if self._wants_usage else {}
        firsts = [
            _chunk(choice.index, {"role": "assistant", "content": ""}, None, None)
            for choice in self._generation.choices
        ]
        async with aclosing(self._generation.deltas()) as deltas:
            async for choice, delta in deltas:
                while firsts:  # nothing is sent before there is something to say
                    yield event({**head, "choices": [firsts.pop(0)], **extra})
                addition, reason = self._read(choice, delta)
                logprobs = None
                if self._num_top is not None and delta.token_ids:
                    logprobs = chat_logprobs(self._state.tokenizer, delta, self._num_top)
                if addition or logprobs:
                    piece = _chunk(choice.index, addition, logprobs, None)
                    yield event({**head, "choices": [piece], **extra})
                if reason is not None:
                    piece = _chunk(choice.index, {}, None, reason)
                    yield event({**head, "choices": [piece], **extra})
        usage = note_usage(request, self._generation)
        if self._wants_usage:
            yield event({**head, "choices": [], "usage": usage})
        yield event(DONE)

    def close(self) -> None:
        """Ends what still runs."""
        self._generation.close()

    def _read(self, choice: Choice, delta: TextDelta) -> tuple[dict[str, Any], str | None]:
        """What the delta adds to the message, and why it ends, if it does."""
        parser = self._parsers[choice.index]
        piece = parser.push(delta.text)
        addition = self._addition(choice, piece)
        if delta.finish_reason is None:
            return addition, None
        _extend(addition, self._addition(choice, parser.finish()))
        has_called = self._num_calls[choice.index] > 0 and delta.finish_reason == "stop"
        return addition, "tool_calls" if has_called else delta.finish_reason

    def _addition(self, choice: Choice, piece: Piece) -> dict[str, Any]:
        addition: dict[str, Any] = {}
        if piece.reasoning:
            addition["reasoning_content"] = piece.reasoning
        if piece.content:
            addition["content"] = piece.content
        if piece.calls:
            addition["tool_calls"] = []
        for call in piece.calls:
            number = self._num_calls[choice.index]
            self._num_calls[choice.index] += 1
            addition["tool_calls"].append(
                {
                    "index": number,
                    "id": f"call_{secrets.token_hex(12)}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
            )
        return addition

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._state.model_id,
        }


def _chunk(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, reason: str | None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _extend(message: dict[str, Any], addition: dict[str, Any]) -> None:
    """Adds texts to texts and calls to calls."""
    for name, value in addition.items():
        message[name] = message[name] + value if name in message else value
