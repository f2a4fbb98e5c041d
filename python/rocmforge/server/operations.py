"""Whether the server lives, serves and how it fares; and the model it has."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from rocmforge.server.errors import RETRY_AFTER_S
from rocmforge.server.openapi import described
from rocmforge.server.state import ServerState

router = APIRouter()


_TOLD = described(answer={"status": str}, is_unavailable=True)


@router.get("/health", openapi_extra=_TOLD)
async def health(request: Request) -> Response:
    """200 while the engine's process answers and its thread steps."""
    state: ServerState = request.app.state.server
    return _told(state.engine.is_ready)


@router.get("/ready", openapi_extra=_TOLD)
async def ready(request: Request) -> Response:
    """200 while a request would be taken."""
    state: ServerState = request.app.state.server
    return _told(state.engine.is_ready and not state.is_draining)


def _told(is_so: bool) -> Response:
    if is_so:
        return JSONResponse({"status": "ok"})
    headers = {"retry-after": f"{RETRY_AFTER_S:.0f}"}
    return JSONResponse({"status": "unavailable"}, 503, headers)


@router.get("/metrics", openapi_extra=described(media_type="text/plain"))
async def metrics(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/v1/status",
    openapi_extra=described(
        answer={
            "status": str,
            "model_loaded": bool,
            "pending_requests": int,
            "cache_utilization": float,
        }
    ),
)
async def status(request: Request) -> Response:
    state: ServerState = request.app.state.server
    beat = state.engine.heartbeat
    is_ready = state.engine.is_ready
    name = "draining" if state.is_draining else "ready" if is_ready else "unavailable"
    return JSONResponse(
        {
            "status": name,
            "model_loaded": is_ready,
            "pending_requests": state.engine.num_live,
            "cache_utilization": 0.0 if beat is None else beat.stats.cache.utilization,
        }
    )


@router.get("/v1/models", openapi_extra=described(answer={"object": str, "data": list}))
async def models(request: Request) -> Response:
    state: ServerState = request.app.state.server
    return JSONResponse({"object": "list", "data": [_model(state)]})


@router.get(
    "/v1/models/{name}",
    openapi_extra=described(
        answer={
            "id": str,
            "object": str,
            "created": int,
            "owned_by": str,
            "max_model_len": int,
        }
    ),
)
async def model(request: Request, name: str) -> Response:
    state: ServerState = request.app.state.server
    state.check_model(name)
    return JSONResponse(_model(state))


def _model(state: ServerState) -> dict[str, object]:
    return {
        "id": state.model_id,
        "object": "model",
        "created": state.started_at,
        "owned_by": "rocmforge",
        "max_model_len": state.model.max_model_len,
    }
