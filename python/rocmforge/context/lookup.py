"""Stores and documents by their names, and vectors that can be compared."""

from __future__ import annotations

import apsw
import numpy as np

from rocmforge.context.search import Vector
from rocmforge.context.values import MAX_DIMENSIONS, checked_label, checked_name
from rocmforge.errors import InvalidArgumentError


def checked_vectors(vectors: Vector, count: int, embedder: str) -> Vector:
    """[count, dimensions]. Raises InvalidArgumentError for another shape and what has no direction."""
    rows = np.ascontiguousarray(vectors, np.float32)
    if rows.ndim != 2 or len(rows) != count or not 1 <= rows.shape[1] <= MAX_DIMENSIONS:
        msg = f"vectors have shape {rows.shape}; {count} chunks need [{count}, 1..{MAX_DIMENSIONS}]"
        raise InvalidArgumentError(msg)
    if not np.isfinite(rows).all() or not rows.any(axis=1).all():
        msg = f"the model {embedder!r} makes a vector that is zero or not finite of a text"
        raise InvalidArgumentError(msg)
    return rows


def find_store(connection: apsw.Connection, store: str) -> tuple[int, str, int] | None:
    """Its id, embedder and dimensions."""
    found: tuple[int, str, int] | None = connection.execute(
        "SELECT id, embedder, dimensions FROM stores WHERE name = ?",
        (checked_label(store, "the store"),),
    ).fetchone()
    return found


def existing_store(connection: apsw.Connection, store: str) -> tuple[int, str, int]:
    found = find_store(connection, store)
    if found is None:
        msg = f"there is no store {store!r}; adding a document makes it"
        raise InvalidArgumentError(msg)
    return found


def find_document(connection: apsw.Connection, store_id: int, name: str) -> int | None:
    found: int | None = connection.execute(
        "SELECT id FROM documents WHERE store_id = ? AND name = ?", (store_id, checked_name(name))
    ).get
    return found


def existing_document(connection: apsw.Connection, store_id: int, store: str, name: str) -> int:
    found = find_document(connection, store_id, name)
    if found is None:
        msg = f"the store {store!r} has no document {name!r}"
        raise InvalidArgumentError(msg)
    return found


def other_embedder(store: str, known: str, given: str) -> InvalidArgumentError:
    msg = (
        f"the store {store!r} has vectors of {known or 'no model'!r}, not of "
        f"{given or 'no model'!r}; use that model, or another store"
    )
    return InvalidArgumentError(msg)
