"""/v1/embeddings."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from rocmforge.engine.embedding import embed
from rocmforge.server.errors import RequestError
from rocmforge.server.json_body import read_body
from rocmforge.server.openapi import described
from rocmforge.server.prompts import encode_prompts
from rocmforge.server.protocol import MAX_PROMPTS, ListOf, StrictModel, TokenIds, prompt_list
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import all_of, while_connected

router = APIRouter()


class EmbeddingRequest(StrictModel):
    model: str | None = None
    input: (
        str
        | TokenIds
        | Annotated[ListOf[str], Field(max_length=MAX_PROMPTS)]
        | Annotated[ListOf[TokenIds], Field(max_length=MAX_PROMPTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None  # of no effect


@router.post(
    "/v1/embeddings",
    openapi_extra=described(
        EmbeddingRequest, answer={"object": str, "data": list, "model": str, "usage": dict}
    ),
)
async def embeddings(request: Request) -> Response:
    """Vectors of length 1, made of hidden states as the model's file says, else of their mean."""
    state: ServerState = request.app.state.server
    body = await read_body(request, EmbeddingRequest)
    work = _embedded(state, body, request.state.namespace)
    return JSONResponse(await while_connected(request, work))


async def _embedded(state: ServerState, body: EmbeddingRequest, namespace: str) -> dict[str, Any]:
    state.check_model(body.model)
    size = state.model.hidden_size
    if body.dimensions not in (None, size):
        msg = f"dimensions is {body.dimensions}; the model's embeddings have {size}"
        raise RequestError(msg, param="dimensions")
    prompts = await encode_prompts(state, prompt_list(body.input, "input"))
    limit = state.settings.queue_timeout_s
    vectors = await all_of(
        # The others wait for the first, and not for longer than the request may take.
        embed(state.engine, ids, size, state.model.pooling, namespace, None if i else limit)
        for i, ids in enumerate(prompts)
    )
    data = []
    for index, vector in enumerate(vectors):
        is_text = body.encoding_format == "base64"
        value = base64.b64encode(vector.tobytes()).decode() if is_text else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": value})
    num_tokens = sum(map(len, prompts))
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": state.model_id, "usage": usage}
