"""One SQLite file that is opened when it is needed, set aside when it is damaged, and written so
that what has been acknowledged is on the disk."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import sqlite_vec

from rocmforge.context.schema import ForeignSchemaError, migrate
from rocmforge.errors import UnavailableError

_logger = logging.getLogger(__name__)

BUSY_MS = 5000
# A check reads the whole file, and compares indexes with tables: a larger one is believed until a read finds damage.
MAX_CHECKED_BYTES = 64 * 1024 * 1024
MAX_VALUE_BYTES = 16 * 1024 * 1024

# In a sound file no statement of this package violates a constraint.
_DAMAGE = (
    *(apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.ConstraintError),
    *(apsw.MismatchError, ForeignSchemaError),
)
_ATTACHED = ("", "-wal", "-shm")


class Database:
    """For many threads, one at a time, and for several processes.

    `path` is a file of this program alone: a damaged one is renamed to path.corrupt-TIME.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: list[Path] = []
        """What damaged files are called now."""
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._close()

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """One state of the file for all that the block reads.

        Raises UnavailableError for a file that cannot be used at present or has just been set aside.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """All or nothing of what the block writes; on the disk when it is left. Raises as reading()."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def forget(self) -> None:
        """Takes deleted pages out of the write-ahead log, unless another process reads it now."""
        with self._lock, self._told():
            connection = self._opened()
            with suppress(apsw.BusyError, apsw.LockedError):
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[apsw.Connection]:
        with self._lock, self._told():
            connection = self._opened()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except (*_DAMAGE, UnicodeDecodeError) as error:
            aside = self._put_aside(error)
            msg = (
                f"the context store {self.path} was damaged; it is now {aside}, a new one is empty"
            )
            raise UnavailableError(msg) from None
        except (apsw.BusyError, apsw.LockedError) as error:
            msg = f"another process has held {self.path} for {BUSY_MS / 1000:.0f} s: {error}"
            raise UnavailableError(msg) from None
        except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError) as error:
            self._close()
            msg = f"the context store {self.path} cannot be used: {error}"
            raise UnavailableError(msg) from None
        except OSError as error:
            self._close()
            msg = f"the context store {self.path} cannot be opened: {error.strerror}"
            raise UnavailableError(msg) from None

    def _opened(self) -> apsw.Connection:
        if self._connection is not None and _identity(self.path) != self._identity:
            self._close()  # deleted, replaced, or set aside by another process
        if self._connection is None:
            try:
                self._connection = self._open()
            except (*_DAMAGE, UnicodeDecodeError) as error:
                self._put_aside(error)
                self._connection = self._open()
        return self._connection

    def _open(self) -> apsw.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._identity = _identity(self.path)
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            _configure(connection)
            migrate(connection)
            if self.path.stat().st_size <= MAX_CHECKED_BYTES:
                found = connection.execute("PRAGMA integrity_check(1)").get
                if found != "ok":
                    raise apsw.CorruptError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self, reason: Exception) -> Path:
        self._close()
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        for suffix in _ATTACHED:
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                old.rename(aside.with_name(aside.name + suffix))
        self.set_aside.append(aside)
        _logger.error("%s was damaged (%s) and is now %s", self.path, reason, aside)
        return aside

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close(True)
            self._connection = None


def _configure(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MS)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    # A file may be hostile: it must not have functions run, nor its tables be written past SQL.
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.pragma("cell_size_check", True)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")  # in this mode a commit waits for the disk
    connection.pragma("foreign_keys", True)
    connection.pragma("secure_delete", True)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
