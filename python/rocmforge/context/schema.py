"""The tables, as the migrations that make them, and what they look like when all have run."""

from __future__ import annotations

from functools import lru_cache

import apsw

from rocmforge.errors import UnsupportedError

APPLICATION_ID = 0x524F4346  # "ROCF"

# Migration i brings a file from version i to i + 1. One that has been released never changes.
MIGRATIONS = (
    """
    CREATE TABLE stores (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        embedder TEXT NOT NULL,
        dimensions INTEGER NOT NULL
    ) STRICT;
    -- AUTOINCREMENT: prompts are ordered by id, so a new document comes after all there ever were.
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        store_id INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        num_bytes INTEGER NOT NULL,
        num_chunks INTEGER NOT NULL,
        added_at INTEGER NOT NULL,
        UNIQUE (store_id, name)
    ) STRICT;
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY,
        document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (document_id, position)
    ) STRICT;
    -- Apart from the texts and together by store, since a search reads all of a store's.
    CREATE TABLE vectors (
        store_id INTEGER NOT NULL,
        chunk_id INTEGER NOT NULL UNIQUE REFERENCES chunks (id) ON DELETE CASCADE,
        vector BLOB NOT NULL,
        PRIMARY KEY (store_id, chunk_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE links (
        source_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        target_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        PRIMARY KEY (source_id, kind, target_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX links_by_target ON links (target_id);
    CREATE VIRTUAL TABLE words USING fts5 (
        text, content = 'chunks', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
    );
    INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
    CREATE TRIGGER chunk_added AFTER INSERT ON chunks BEGIN
        INSERT INTO words (rowid, text) VALUES (new.id, new.text);
    END;
    CREATE TRIGGER chunk_deleted AFTER DELETE ON chunks BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
    END;
    """,
)


class ForeignSchemaError(Exception):
    """The tables are not those of the version that the file says it has."""


def migrate(connection: apsw.Connection) -> None:
    """Brings the file to the newest version; on an error it is as before.

    Raises UnsupportedError for a file of a later version, ForeignSchemaError.
    """
    if connection.pragma("user_version") != len(MIGRATIONS):
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.pragma("user_version")  # another process may have been first
            if not 0 <= version <= len(MIGRATIONS):
                msg = (
                    f"the context store has version {version}; this build knows versions up to "
                    f"{len(MIGRATIONS)}: use the newer one that wrote it"
                )
                raise UnsupportedError(msg)
            if _tables(connection) != _expected(MIGRATIONS[:version]):
                raise ForeignSchemaError
            for script in MIGRATIONS[version:]:
                connection.execute(script)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", len(MIGRATIONS))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    if _tables(connection) != _expected(MIGRATIONS):
        raise ForeignSchemaError


@lru_cache(maxsize=4)
def _expected(migrations: tuple[str, ...]) -> frozenset[tuple[object, ...]]:
    connection = apsw.Connection(":memory:")
    for script in migrations:
        connection.execute(script)
    return _tables(connection)


def _tables(connection: apsw.Connection) -> frozenset[tuple[object, ...]]:
    return frozenset(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))
