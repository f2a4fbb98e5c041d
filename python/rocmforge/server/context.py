"""/v1/context: the documents of a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from rocmforge.errors import UnavailableError
from rocmforge.server.json_body import read_body
from rocmforge.server.openapi import described
from rocmforge.server.protocol import ListOf, StrictModel
from rocmforge.server.retrieval import embedded, embedder_name, searched
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import while_connected

if TYPE_CHECKING:
    from rocmforge.context import ContextStore, DocumentInfo

MAX_DOCUMENTS = 32
# Of an export's answer, as characters of texts; the next request goes on from there.
MAX_EXPORT_CHARS = 2_000_000
MAX_LISTED = 1000

Result = TypeVar("Result")

router = APIRouter(prefix="/v1/context")


class NewDocument(StrictModel):
    name: str
    text: str


class AddRequest(StrictModel):
    store: str = "default"
    documents: ListOf[NewDocument] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    chunk_chars: int = 800
    words_only: bool = False


class SearchRequest(StrictModel):
    store: str = "default"
    query: str
    k: int = 5
    depth: int = 1
    linked: int = 2


class LinkRequest(StrictModel):
    store: str = "default"
    source: str
    kind: str
    target: str


class ListRequest(StrictModel):
    store: str | None = None
    after: str = Field("", max_length=512)
    limit: int = Field(100, ge=1, le=MAX_LISTED)


class DeleteRequest(StrictModel):
    store: str
    document: str | None = None


class ExportRequest(StrictModel):
    store: str = "default"
    after: str = Field("", max_length=512)


@router.post("/add", openapi_extra=described(AddRequest, answer={"store": str, "documents": list}))
async def context_add(request: Request) -> Response:
    """Adds documents, or replaces those of the same name; what is answered is on the disk."""
    body = await read_body(request, AddRequest)
    state: ServerState = request.app.state.server
    owner, namespace = request.state.owner, request.state.namespace
    added = []
    for document in body.documents:
        info = await _within(request, _added(state, owner, namespace, body, document))
        added.append(asdict(info))
    return JSONResponse({"store": body.store, "documents": added})


@router.post("/search", openapi_extra=described(SearchRequest, answer={"store": str, "hits": list}))
async def context_search(request: Request) -> Response:
    """Chunks by meaning and words together, then those of documents linked from theirs."""
    from rocmforge.context import Search

    body = await read_body(request, SearchRequest)
    state: ServerState = request.app.state.server
    wanted = Search(body.query, body.k, body.depth, body.linked)
    owner, namespace = request.state.owner, request.state.namespace
    hits = await _within(request, searched(state, owner, namespace, body.store, wanted))
    return JSONResponse({"store": body.store, "hits": [hit.report() for hit in hits]})


@router.post("/link", openapi_extra=described(LinkRequest, answer={"new": bool}))
async def context_link(request: Request) -> Response:
    """Leads searches that find one document on to another."""
    body = await read_body(request, LinkRequest)
    is_new = await _run(
        request, lambda context: context.link(body.store, body.source, body.kind, body.target)
    )
    return JSONResponse({"new": is_new})


@router.post(
    "/list", openapi_extra=described(ListRequest, answer={"stores": list, "documents": list})
)
async def context_list(request: Request) -> Response:
    """The stores and, of the one that is named, documents by name."""
    body = await read_body(request, ListRequest)

    def found(context: ContextStore) -> dict[str, Any]:
        documents = []
        if body.store is not None:
            documents = context.documents(body.store, body.after, body.limit)
        return {
            "stores": [asdict(info) for info in context.stores()],
            "documents": [asdict(info) for info in documents],
        }

    return JSONResponse(await _run(request, found))


@router.post("/delete", openapi_extra=described(DeleteRequest, answer={"deleted": int}))
async def context_delete(request: Request) -> Response:
    """Deletes a document, or a store with all it has."""
    body = await read_body(request, DeleteRequest)
    count = await _run(request, lambda context: context.delete(body.store, body.document))
    return JSONResponse({"deleted": count})


@router.post(
    "/export", openapi_extra=described(ExportRequest, answer={"documents": list, "more": bool})
)
async def context_export(request: Request) -> Response:
    """Documents with chunks and links, by name, as many as an answer holds."""
    body = await read_body(request, ExportRequest)

    def found(context: ContextStore) -> dict[str, Any]:
        documents: list[dict[str, Any]] = []
        num_chars = 0
        for document in context.export(body.store, body.after):
            if num_chars > MAX_EXPORT_CHARS:
                return {"documents": documents, "more": True}
            documents.append(document)
            num_chars += sum(map(len, document["chunks"]))
        return {"documents": documents, "more": False}

    return JSONResponse(await _run(request, found))


async def _added(
    state: ServerState, owner: str, namespace: str, body: AddRequest, document: NewDocument
) -> DocumentInfo:
    from rocmforge.context import chunked

    name = "" if body.words_only else embedder_name(state)
    chunks = await asyncio.to_thread(chunked, document.text, body.chunk_chars)
    await state.contexts.run(
        owner, lambda context: context.check_add(body.store, document.name, chunks, name)
    )
    vectors = None if body.words_only else await embedded(state, chunks, namespace)
    return await state.contexts.run(
        owner, lambda context: context.add(body.store, document.name, chunks, vectors, name)
    )


async def _run(request: Request, work: Any) -> Any:
    state: ServerState = request.app.state.server
    return await state.contexts.run(request.state.owner, work)


async def _within(request: Request, work: Awaitable[Result]) -> Result:
    """Ends with its client, and with UnavailableError after as long as requests may take."""
    state: ServerState = request.app.state.server
    limit = state.settings.request_timeout_s
    try:
        return await asyncio.wait_for(while_connected(request, work), limit)
    except asyncio.TimeoutError:
        msg = f"embedding took over {limit:g} s; send smaller documents"
        raise UnavailableError(msg) from None
