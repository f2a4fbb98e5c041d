"""/v1/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from rocmforge.engine.output import TextDelta
from rocmforge.engine.prompt_logprobs import prompt_logprobs
from rocmforge.server.errors import RequestError
from rocmforge.server.generation import Choice, Generation
from rocmforge.server.json_body import read_body
from rocmforge.server.logprobs import CompletionLogprobs
from rocmforge.server.openapi import described
from rocmforge.server.prompts import encode_prompts
from rocmforge.server.protocol import CompletionRequest, ContextOptions
from rocmforge.server.retrieval import prefix
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import DONE, all_of, event, respond

MAX_TOTAL_CHOICES = 64
DEFAULT_MAX_TOKENS = 16  # OpenAI's

PromptLogprobs = list[dict[int, float] | None]

router = APIRouter()


@router.post(
    "/v1/completions",
    openapi_extra=described(
        CompletionRequest,
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
async def completions(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, CompletionRequest)
    starting = _start(state, body, request.state.namespace, request.state.owner)
    return await respond(request, starting, stream=bool(body.stream))


async def _start(
    state: ServerState, body: CompletionRequest, namespace: str, owner: str
) -> _Answer:
    state.check_model(body.model)
    n = body.n or 1
    prompts = body.prompts()
    if n * len(prompts) > MAX_TOTAL_CHOICES:
        msg = f"{len(prompts)} prompts with n={n} are over {MAX_TOTAL_CHOICES} choices"
        raise RequestError(msg, param="n")
    if body.best_of not in (None, n):
        msg = f"best_of is {body.best_of}; it can only be n, {n}: choices are not ranked"
        raise RequestError(msg, param="best_of")
    max_tokens = checked_max_tokens(state, body.max_tokens, "max_tokens") or DEFAULT_MAX_TOKENS
    params = body.sampling_params(max_tokens, body.logprobs)
    if body.context is not None:
        prompts = await _with_context(state, owner, namespace, body.context, prompts)
    ids = await encode_prompts(state, prompts)
    found: list[PromptLogprobs | None] = [None] * len(prompts)
    if body.echo and body.logprobs is not None:
        limit = state.settings.queue_timeout_s
        found = await all_of(
            # The others wait for the first, and not for longer than the request may take.
            prompt_logprobs(state.engine, prompt, body.logprobs, namespace, None if i else limit)
            for i, prompt in enumerate(ids)
        )
    generation = await Generation.start(state, ids, params, n, namespace)
    echoes = [
        _Echo((p if isinstance(p, str) else state.tokenizer.decode(p)) if body.echo else "", own)
        for p, own in zip(prompts, found, strict=True)
    ]
    repeated = [echo for echo in echoes for _ in range(n)]
    return _Answer(state, generation, repeated, body.logprobs, body.wants_usage)


async def _with_context(
    state: ServerState,
    owner: str,
    namespace: str,
    wanted: ContextOptions,
    prompts: list[str | list[int]],
) -> list[str | list[int]]:
    """Every prompt after what is found for it. Raises RequestError for token ids."""
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) < len(prompts):
        msg = "context goes before a text; the prompt has token ids"
        raise RequestError(msg, param="context")
    return [await prefix(state, owner, namespace, wanted, text) + text for text in texts]


def checked_max_tokens(state: ServerState, max_tokens: int | None, name: str) -> int | None:
    """Raises RequestError for more than the context has."""
    limit = state.model.max_model_len
    if max_tokens is not None and max_tokens > limit:
        msg = f"{name} is {max_tokens}; the context has {limit} tokens"
        raise RequestError(msg, param=name)
    return max_tokens


@dataclass(frozen=True, slots=True)
class _Echo:
    """A prompt as it is given back."""

    text: str
    logprobs: PromptLogprobs | None


class _Answer:
    """One answer to the client, whole or in pieces."""

    def __init__(
        self,
        state: ServerState,
        generation: Generation,
        echoes: list[_Echo],
        num_top: int | None,
        wants_usage: bool,
    ) -> None:
        self._generation = generation
        self._echoes = echoes
        self._wants_usage = wants_usage
        self._logprobs = None
        if num_top is not None:
            self._logprobs = [
                CompletionLogprobs(state.tokenizer, num_top, len(echo.text)) for echo in echoes
            ]
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": state.model_id,
        }

    async def whole(self, request: Request) -> dict[str, Any]:
        choices = [self._first_piece(choice) for choice in self._generation.choices]
        async with aclosing(self._generation.deltas()) as deltas:
            async for choice, delta in deltas:
                piece, addition = choices[choice.index], self._piece(choice, delta)
                piece["text"] += addition["text"]
                piece["finish_reason"] = addition["finish_reason"]
                _extend(piece, addition["logprobs"])
        usage = note_usage(request, self._generation)
        return {**self._head, "choices": choices, "usage": usage}

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        extra = {"usage": None} if self._wants_usage else {}
        firsts = [
            self._first_piece(choice)
            for choice in self._generation.choices
            if self._echoes[choice.index].text
        ]
        async with aclosing(self._generation.deltas()) as deltas:
            async for choice, delta in deltas:
                while firsts:  # nothing is sent before there is something to say
                    yield event({**self._head, "choices": [firsts.pop(0)], **extra})
                piece = self._piece(choice, delta)
                yield event({**self._head, "choices": [piece], **extra})
        usage = note_usage(request, self._generation)
        if self._wants_usage:
            yield event({**self._head, "choices": [], "usage": usage})
        yield event(DONE)

    def close(self) -> None:
        """Ends what still runs."""
        self._generation.close()

    def _first_piece(self, choice: Choice) -> dict[str, Any]:
        """What stands before anything is generated."""
        echo, logprobs = self._echoes[choice.index], None
        if self._logprobs is not None and echo.logprobs is not None:
            prompt = choice.assembler.prompt_token_ids
            logprobs = self._logprobs[choice.index].of_prompt(prompt, echo.logprobs)
        return _piece(choice.index, echo.text, logprobs, None)

    def _piece(self, choice: Choice, delta: TextDelta) -> dict[str, Any]:
        logprobs = None
        if self._logprobs is not None and delta.token_ids:
            logprobs = self._logprobs[choice.index].add(delta)
        return _piece(choice.index, delta.text, logprobs, delta.finish_reason)


def _piece(
    index: int, text: str, logprobs: dict[str, list[Any]] | None, reason: str | None
) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def note_usage(request: Request, generation: Generation) -> dict[str, Any]:
    """The usage, which is logged as well, with the times."""
    usage = generation.usage()
    request.scope["usage"] = {
        **{name: usage[name] for name in ("prompt_tokens", "completion_tokens")},
        **{name: round(seconds, 6) for name, seconds in generation.timing().items()},
    }
    return usage


def _extend(piece: dict[str, Any], logprobs: dict[str, list[Any]] | None) -> None:
    if logprobs is None:
        return
    if piece["logprobs"] is None:
        piece["logprobs"] = logprobs
        return
    for name, column in logprobs.items():
        piece["logprobs"][name] += column
