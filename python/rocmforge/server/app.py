"""The application: its routes, and what becomes of errors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from rocmforge._native import BUILD
from rocmforge.errors import RocmForgeError
from rocmforge.server import (
    chat,
    chat_page,
    completions,
    context,
    embeddings,
    native,
    operations,
)
from rocmforge.server.errors import RequestError, error_response
from rocmforge.server.guard import Guard
from rocmforge.server.openapi import document
from rocmforge.server.state import ServerState

ROUTERS = [
    module.router
    for module in (chat, chat_page, completions, context, embeddings, native, operations)
]


def create_app(state: ServerState) -> Guard:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.server = state
    for router in ROUTERS:
        app.include_router(router)
    if state.settings.docs:
        described = document(ROUTERS, BUILD.version)
        app.add_route("/openapi.json", lambda _: JSONResponse(described), ["GET"])
    app.add_exception_handler(RocmForgeError, _failed)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _failed)  # a bug: answered here, logged by the guard
    return Guard(app, state)


async def _failed(_: Request, error: Exception) -> Response:
    return error_response(error)


async def _no_route(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    what = "method" if error.status_code == 405 else "path"
    response = error_response(
        RequestError(f"there is no such {what}", status=error.status_code, code="not_found")
    )
    response.headers.update(error.headers or {})
    return response
