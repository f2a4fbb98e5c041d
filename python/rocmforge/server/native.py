"""The endpoints of ROCmForge's own: generate, tokenize, status and placement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import InvalidArgumentError
from rocmforge.server.completions import checked_max_tokens, note_usage
from rocmforge.server.errors import RequestError
from rocmforge.server.generation import Generation
from rocmforge.server.json_body import read_body
from rocmforge.server.openapi import described
from rocmforge.server.prompts import encode_prompts
from rocmforge.server.protocol import ListOf, StrictModel
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import event, respond
from rocmforge.tokenizer import Tokenizer

MAX_TOKENIZED = 1_000_000
MAX_DETOKENIZED = 1_000_000

router = APIRouter()


class GenerateRequest(StrictModel):
    prompt: str
    max_tokens: int = Field(128, ge=1)
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = Field(1.0, ge=0, le=1)
    stream: bool = False


class TokenizeRequest(StrictModel):
    text: str = Field(max_length=MAX_TOKENIZED)
    add_special: bool = False
    parse_special: bool = False


class DetokenizeRequest(StrictModel):
    tokens: ListOf[int] = Field(max_length=MAX_DETOKENIZED)
    skip_special: bool = True


_GENERATED: dict[str, type] = {
    "request_id": str,
    "text": str,
    "tokens": list,
    "finished": bool,
    "finish_reason": str,
}


@router.post(
    "/v1/generate",
    openapi_extra=described(GenerateRequest, answer=_GENERATED, also_streams=True),
)
async def generate(request: Request) -> Response:
    body = await read_body(request, GenerateRequest)
    return await _generated(request, body, stream=body.stream)


@router.post(
    "/v1/generate/stream",
    openapi_extra=described(GenerateRequest, media_type="text/event-stream"),
)
async def generate_stream(request: Request) -> Response:
    body = await read_body(request, GenerateRequest)
    return await _generated(request, body, stream=True)


async def _generated(request: Request, body: GenerateRequest, *, stream: bool) -> Response:
    state: ServerState = request.app.state.server
    return await respond(request, _start(state, body, request.state.namespace), stream=stream)


async def _start(state: ServerState, body: GenerateRequest, namespace: str) -> _Answer:
    checked_max_tokens(state, body.max_tokens, "max_tokens")
    try:
        params = SamplingParams(
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
        )
    except InvalidArgumentError as error:
        raise RequestError(str(error), param=str(error).split()[0]) from None
    prompts = await encode_prompts(state, [body.prompt])
    return _Answer(await Generation.start(state, prompts, params, 1, namespace))


class _Answer:
    """One answer to the client, whole or in pieces."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def whole(self, request: Request) -> dict[str, Any]:
        tokens: list[int] = []
        text, reason = "", None
        async with aclosing(self._generation.deltas()) as deltas:
            async for _, delta in deltas:
                text += delta.text
                tokens += delta.token_ids
                reason = delta.finish_reason
        note_usage(request, self._generation)
        return {
            "request_id": request.scope["request_id"],
            "text": text,
            "tokens": tokens,
            "finished": True,
            "finish_reason": reason,
        }

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        """One event a token. Text that two tokens make together comes with the second."""
        request_id = request.scope["request_id"]
        async with aclosing(self._generation.deltas()) as deltas:
            async for _, delta in deltas:
                ids: list[int | None] = [*delta.token_ids] or [None]
                for i, token_id in enumerate(ids):
                    is_last = i == len(ids) - 1
                    reason = delta.finish_reason if is_last else None
                    yield event(
                        {
                            "request_id": request_id,
                            "token": token_id,
                            "text": delta.text if is_last else "",
                            "finished": reason is not None,
                            "finish_reason": reason,
                        }
                    )
        note_usage(request, self._generation)

    def close(self) -> None:
        """Ends what still runs."""
        self._generation.close()


@router.post(
    "/tokenize",
    openapi_extra=described(TokenizeRequest, answer={"token_ids": list, "tokens": list}),
)
async def tokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, TokenizeRequest)
    return await asyncio.to_thread(_tokenized, state.tokenizer, body)


def _tokenized(tokenizer: Tokenizer, body: TokenizeRequest) -> Response:
    ids = tokenizer.encode(body.text, body.add_special, body.parse_special)
    texts = [tokenizer.token_bytes(i).decode(errors="replace") for i in ids]
    return JSONResponse({"token_ids": ids, "tokens": texts})


@router.post("/detokenize", openapi_extra=described(DetokenizeRequest, answer={"text": str}))
async def detokenize(request: Request) -> Response:
    state: ServerState = request.app.state.server
    body = await read_body(request, DetokenizeRequest)
    text = await asyncio.to_thread(state.tokenizer.decode, body.tokens, body.skip_special)
    return JSONResponse({"text": text})


@router.get(
    "/v1/placement",
    openapi_extra=described(
        answer={"model": str, "placement": list, "fallbacks": int, "recording_problem": str}
    ),
)
async def placement(request: Request) -> Response:
    """What runs where and why, how many parts are on the CPU although nobody asked for that, and
    why a GPU's steps are not recorded any more ("": they are, or there is no GPU)."""
    state: ServerState = request.app.state.server
    rows = [{"part": p, "device": d, "reason": r} for p, d, r in state.model.placement]
    beat = state.engine.heartbeat
    return JSONResponse(
        {
            "model": state.model_id,
            "placement": rows,
            "fallbacks": state.model.num_fallbacks,
            "recording_problem": (beat and beat.stats.recording_problem) or "",
        }
    )
