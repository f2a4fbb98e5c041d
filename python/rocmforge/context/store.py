"""ContextStore: what may be done with a file of documents."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from rocmforge.context import search as searching
from rocmforge.context.database import Database
from rocmforge.context.lookup import (
    checked_vectors,
    existing_document,
    existing_store,
    find_document,
    find_store,
    other_embedder,
)
from rocmforge.context.search import Vector
from rocmforge.context.values import (
    DocumentInfo,
    Hit,
    Quotas,
    Search,
    StoreInfo,
    checked_label,
    checked_name,
    checked_number,
    checked_text,
)
from rocmforge.errors import CapacityError, InvalidArgumentError

MAX_PAGE = 1000

_STORES = """
    SELECT name, embedder, dimensions,
        (SELECT count(*) FROM documents WHERE store_id = stores.id),
        (SELECT coalesce(sum(num_chunks), 0) FROM documents WHERE store_id = stores.id)
    FROM stores ORDER BY name
"""
_USED = "SELECT count(*), coalesce(sum(num_chunks), 0), coalesce(sum(num_bytes), 0) FROM documents"
_DOCUMENTS = """
    SELECT name, num_bytes, num_chunks, added_at FROM documents
    WHERE store_id = ?1 AND name > ?2 ORDER BY name LIMIT ?3
"""
_PUT = """
    INSERT INTO documents (store_id, name, num_bytes, num_chunks, added_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (store_id, name) DO UPDATE SET num_bytes = excluded.num_bytes,
        num_chunks = excluded.num_chunks, added_at = excluded.added_at
    RETURNING id
"""
_LINKS = """
    SELECT links.kind, documents.name FROM links JOIN documents ON documents.id = links.target_id
    WHERE links.source_id = ? ORDER BY links.kind, documents.name
"""


class ContextStore:
    """Named stores of documents in one file. Its methods may be called from any thread.

    All of them raise UnavailableError for a file that cannot be used, and InvalidArgumentError for
    names and texts that no store has or takes.
    """

    def __init__(self, path: Path, quotas: Quotas | None = None) -> None:
        self.quotas = quotas or Quotas()
        self._database = Database(path)

    @property
    def set_aside(self) -> list[Path]:
        """Damaged files that were found, by what they are called now."""
        return list(self._database.set_aside)

    def close(self) -> None:
        """May be called again, as may everything else."""
        self._database.close()

    def check_add(self, store: str, name: str, chunks: Sequence[str], embedder: str) -> None:
        """Raises what add() would, before there are vectors."""
        num_bytes = self._checked(store, name, chunks)
        with self._database.reading() as connection:
            found = find_store(connection, store)
            if found is not None and found[1] != embedder:
                raise other_embedder(store, found[1], embedder)
            self._check_room(connection, found and found[0], name, len(chunks), num_bytes)

    def add(
        self,
        store: str,
        name: str,
        chunks: Sequence[str],
        vectors: Vector | None,
        embedder: str = "",
    ) -> DocumentInfo:
        """Puts a document into a store, which is made if need be; one of that name is replaced,
        with its links and its place in prompts kept. On the disk when the call returns.

        `vectors` [len(chunks), dimensions], none of them zero, is what the model named `embedder`
        makes of the chunks; without, only words find the document. Raises InvalidArgumentError for
        another model than the store's, CapacityError over a quota.
        """
        num_bytes = self._checked(store, name, chunks)
        rows = _checked_rows(vectors, len(chunks), embedder)
        dimensions = 0 if rows is None else rows.shape[1]
        now = int(time.time())
        with self._database.writing() as connection:
            store_id = self._made_store(connection, store, embedder, dimensions)
            self._check_room(connection, store_id, name, len(chunks), num_bytes)
            document = connection.execute(_PUT, (store_id, name, num_bytes, len(chunks), now)).get
            connection.execute("DELETE FROM chunks WHERE document_id = ?", (document,))
            for position, text in enumerate(chunks):
                connection.execute(
                    "INSERT INTO chunks (document_id, position, text) VALUES (?, ?, ?)",
                    (document, position, text),
                )
                if rows is not None:
                    connection.execute(
                        "INSERT INTO vectors VALUES (?, ?, ?)",
                        (store_id, connection.last_insert_rowid(), rows[position].tobytes()),
                    )
        return DocumentInfo(name, num_bytes, len(chunks), now)

    def link(self, store: str, source: str, kind: str, target: str) -> bool:
        """Leads searches that find `source` on to `target`; False if that link was there already.

        Raises CapacityError over a quota.
        """
        checked_label(kind, "the kind of a link")
        with self._database.writing() as connection:
            store_id = existing_store(connection, store)[0]
            ends = [
                existing_document(connection, store_id, store, name) for name in (source, target)
            ]
            connection.execute(
                "INSERT OR IGNORE INTO links VALUES (?, ?, ?)", (ends[0], kind, ends[1])
            )
            is_new = connection.changes() > 0
            if is_new and connection.execute("SELECT count(*) FROM links").get > self.quotas.links:
                raise _over(self.quotas.links, "links")
        return is_new

    def search(
        self, store: str, wanted: Search, vector: Vector | None = None, embedder: str = ""
    ) -> list[Hit]:
        """The best first; `vector` [dimensions] is what the model `embedder` makes of the query.

        Raises InvalidArgumentError for another model than the store's.
        """
        with self._database.reading() as connection:
            store_id, known, dimensions = existing_store(connection, store)
            if vector is not None:
                vector = checked_vectors(vector[None], 1, embedder)[0]
                if (known, dimensions) != (embedder, len(vector)):
                    raise other_embedder(store, known, embedder)
            return searching.search(connection, store_id, wanted, vector)

    def stores(self) -> list[StoreInfo]:
        with self._database.reading() as connection:
            return [StoreInfo(*row) for row in connection.execute(_STORES)]

    def embedder(self, store: str) -> str | None:
        """Which model made the vectors of a store; empty: none did; None: there is no such store."""
        with self._database.reading() as connection:
            found = find_store(connection, store)
            return None if found is None else found[1]

    def documents(self, store: str, after: str = "", limit: int = MAX_PAGE) -> list[DocumentInfo]:
        """By name, those that come after `after`."""
        checked_number(limit, "limit", 1, MAX_PAGE)
        if after:
            checked_name(after)
        with self._database.reading() as connection:
            store_id = existing_store(connection, store)[0]
            rows = connection.execute(_DOCUMENTS, (store_id, after, limit))
            return [DocumentInfo(*row) for row in rows]

    def delete(self, store: str, name: str | None = None) -> int:
        """Deletes a document, or a store with all it has; how many documents that were.

        Their texts are overwritten in the file.
        """
        with self._database.writing() as connection:
            store_id = existing_store(connection, store)[0]
            if name is not None:
                document = existing_document(connection, store_id, store, name)
                connection.execute("DELETE FROM documents WHERE id = ?", (document,))
                count = 1
            else:
                count = connection.execute(
                    "SELECT count(*) FROM documents WHERE store_id = ?", (store_id,)
                ).get
                connection.execute("DELETE FROM stores WHERE id = ?", (store_id,))
        self._database.forget()
        return count

    def export(self, store: str, after: str = "") -> Iterator[dict[str, Any]]:
        """Every document as {"store", "name", "added_at", "chunks", "links"}, by name; each as it is
        when its turn comes. `links` are {"kind", "target"}."""
        last = after
        while page := self.documents(store, last, 100):
            for info in page:
                if (document := self._exported(store, info)) is not None:
                    yield document
            last = page[-1].name

    def _exported(self, store: str, info: DocumentInfo) -> dict[str, Any] | None:
        with self._database.reading() as connection:
            found = find_store(connection, store)
            document = found and find_document(connection, found[0], info.name)
            if document is None:
                return None  # deleted meanwhile
            chunks = connection.execute(
                "SELECT text FROM chunks WHERE document_id = ? ORDER BY position", (document,)
            )
            texts = [text for (text,) in chunks]
            links = connection.execute(_LINKS, (document,))
            return {
                "store": store,
                "name": info.name,
                "added_at": info.added_at,
                "chunks": texts,
                "links": [{"kind": kind, "target": target} for kind, target in links],
            }

    def _checked(self, store: str, name: str, chunks: Sequence[str]) -> int:
        """The bytes of a document's chunks."""
        checked_label(store, "the store")
        checked_name(name)
        if not chunks:
            msg = f"the document {name!r} is empty"
            raise InvalidArgumentError(msg)
        num_bytes = sum(len(checked_text(chunk, f"a chunk of {name!r}")) for chunk in chunks)
        if num_bytes > self.quotas.document_bytes:
            msg = (
                f"the document {name!r} has {num_bytes} bytes; the limit is "
                f"{self.quotas.document_bytes}: split it"
            )
            raise InvalidArgumentError(msg)
        return num_bytes

    def _made_store(
        self, connection: apsw.Connection, store: str, embedder: str, dimensions: int
    ) -> int:
        found = find_store(connection, store)
        if found is not None:
            if found[1:] != (embedder, dimensions):
                raise other_embedder(store, found[1], embedder)
            return found[0]
        if connection.execute("SELECT count(*) FROM stores").get >= self.quotas.stores:
            raise _over(self.quotas.stores, "stores")
        connection.execute(
            "INSERT INTO stores (name, embedder, dimensions) VALUES (?, ?, ?)",
            (store, embedder, dimensions),
        )
        return connection.last_insert_rowid()

    def _check_room(
        self,
        connection: apsw.Connection,
        store_id: int | None,
        name: str,
        num_chunks: int,
        num_bytes: int,
    ) -> None:
        """Raises CapacityError if the document does not fit, in the place of one of its name."""
        (used,) = connection.execute(_USED)
        # No id is 0.
        (old,) = connection.execute(
            f"{_USED} WHERE store_id = ? AND name = ?", (store_id or 0, name)
        )
        quotas = self.quotas
        limits = {"documents": quotas.documents, "chunks": quotas.chunks, "bytes": quotas.bytes}
        more = (1, num_chunks, num_bytes)
        for (what, limit), now, before, new in zip(limits.items(), used, old, more, strict=True):
            if now - before + new > limit:
                raise _over(limit, what)


def _over(limit: int, what: str) -> CapacityError:
    msg = f"the context store is full: it may have {limit} {what}; delete some first"
    return CapacityError(msg)


def _checked_rows(vectors: Vector | None, count: int, embedder: str) -> Vector | None:
    if (vectors is None) != (embedder == ""):
        msg = f"embedder is {embedder!r}; it has to name the model exactly where there are vectors"
        raise InvalidArgumentError(msg)
    return None if vectors is None else checked_vectors(vectors, count, embedder)
