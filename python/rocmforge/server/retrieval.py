"""Vectors and searches for the routes, and what `context` in a request puts before its question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rocmforge.engine.embedding import embed
from rocmforge.server.errors import RequestError
from rocmforge.server.prompts import encode_prompts
from rocmforge.server.protocol import ContextOptions, Message
from rocmforge.server.state import ServerState
from rocmforge.server.streaming import all_of

if TYPE_CHECKING:
    from rocmforge.context import Hit, Search

# Of a document's chunks at once: the queue is for others as well.
NUM_EMBEDDED_AT_ONCE = 16


async def with_context(
    state: ServerState, owner: str, namespace: str, wanted: ContextOptions, messages: list[Message]
) -> list[Message]:
    """The conversation with what is found at the beginning of its first question.

    There every template writes it, behind the system's message and before what is new in a turn, so
    that the prefix cache serves it. The query is the last question if none is given.
    """
    asked = [i for i, message in enumerate(messages) if message.role == "user"]
    if not asked:
        msg = "context goes before a message of the user, and there is none"
        raise RequestError(msg, param="context")
    found = await prefix(state, owner, namespace, wanted, _text(messages[asked[-1]]))
    first = messages[asked[0]]
    changed = first.model_copy(update={"content": found + _text(first)})
    return [*messages[: asked[0]], changed, *messages[asked[0] + 1 :]]


async def prefix(
    state: ServerState, owner: str, namespace: str, wanted: ContextOptions, question: str
) -> str:
    """The chunks for a question as text; empty if none is found."""
    from rocmforge.context import Search, as_prompt
    from rocmforge.context.values import MAX_QUERY_CHARS

    query = question[:MAX_QUERY_CHARS] if wanted.query is None else wanted.query
    search = Search(query, wanted.k, wanted.depth, wanted.linked)
    return as_prompt(await searched(state, owner, namespace, wanted.store, search))


async def searched(
    state: ServerState, owner: str, namespace: str, store: str, wanted: Search
) -> list[Hit]:
    """By words and, in a store that has vectors, by that which the model makes of the query."""
    if not await state.contexts.run(owner, lambda context: context.embedder(store)):
        return await state.contexts.run(owner, lambda context: context.search(store, wanted))
    vector = (await embedded(state, [wanted.query], namespace))[0]
    name = embedder_name(state)
    return await state.contexts.run(
        owner, lambda context: context.search(store, wanted, vector, name)
    )


def embedder_name(state: ServerState) -> str:
    """What `rocmforge context` calls the model as well."""
    return f"{state.model.name} ({state.model.pooling})"


async def embedded(state: ServerState, texts: list[str], namespace: str) -> npt.NDArray[np.float32]:
    """[len(texts), hidden_size], of length 1. Raises what /v1/embeddings answers with."""
    size, pooling = state.model.hidden_size, state.model.pooling
    limit = state.settings.queue_timeout_s
    vectors: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(texts), NUM_EMBEDDED_AT_ONCE):
        prompts = await encode_prompts(state, texts[start : start + NUM_EMBEDDED_AT_ONCE])
        vectors += await all_of(
            # The others wait for the first, and not for longer than the request may take.
            embed(state.engine, ids, size, pooling, namespace, None if i else limit)
            for i, ids in enumerate(prompts)
        )
    return np.stack(vectors)


def _text(message: Message) -> str:
    content = message.content or ""
    return content if isinstance(content, str) else "".join(part.text for part in content)
