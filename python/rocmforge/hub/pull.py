"""Fetches a model: goes on where an earlier pull ended, and lets a file have its name only when its
SHA-256 is the one the hub tells."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rocmforge.errors import UnavailableError
from rocmforge.hub.client import Hub, RemoteFile, read
from rocmforge.hub.names import ModelName, choose, is_safe, parse
from rocmforge.hub.store import place

_PIECE_BYTES: Final = 1 << 20
# Attempts that bring nothing, one after the other, and the seconds between them.
_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0)


@dataclass(slots=True)
class PullProgress:
    """Filled in by pull(), to be watched from another thread."""

    total_bytes: int = 0
    done_bytes: int = 0
    note: str = ""
    _start: float = field(default_factory=time.monotonic)
    _fetched: int = 0

    def fetched(self, count: int) -> None:
        self.done_bytes += count
        self._fetched += count

    def text(self) -> str:
        rate = self._fetched / max(time.monotonic() - self._start, 1e-3)
        so_far = f"{self.done_bytes / 1e6:.1f} of {self.total_bytes / 1e6:.1f} MB"
        return f"{so_far}, {rate / 1e6:.1f} MB/s{self.note}" if self.total_bytes else self.note


@dataclass(frozen=True, slots=True)
class Pulled:
    path: Path
    size_bytes: int
    sha256: str
    resumed_at: int  # bytes that were here before; all of them: nothing was fetched


def pull(
    model: str,
    hub: Hub | None = None,
    folder: Path | None = None,
    progress: PullProgress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Pulled]:
    """The files of `owner/repo[:file]`, the one to open first.

    Raises InvalidArgumentError for a name that is none, is unknown or needs a token,
    UnsupportedError for files without a checksum, and UnavailableError if the server, the disk or
    the checksum fails; what has been fetched of a file is kept, unless its checksum is wrong.
    """
    hub, progress = hub or Hub(), progress or PullProgress()
    name = parse(model)
    commit, entries = hub.names(name)
    by_name = {entry["rfilename"]: entry for entry in entries}
    files = [hub.describe(name, by_name[file]) for file in _chosen(name, by_name)]
    paths = [place(name, file.name, folder) for file in files]
    progress.total_bytes = sum(file.size_bytes for file in files)
    return [
        _Download(hub, name, commit, file, path, progress, sleep).run()
        for file, path in zip(files, paths, strict=True)
    ]


def _chosen(name: ModelName, by_name: dict[str, Any]) -> list[str]:
    chosen = choose(name, by_name)
    for file in chosen:
        if not is_safe(file):
            place(name, file)  # says so
    return chosen


@dataclass(frozen=True, slots=True)
class _Download:
    hub: Hub
    name: ModelName
    commit: str
    file: RemoteFile
    path: Path
    progress: PullProgress
    sleep: Callable[[float], None]

    @property
    def part(self) -> Path:
        """Of this content: another version of the file never continues it."""
        return self.path.with_name(f".{self.path.name}.{self.file.sha256[:16]}.part")

    def run(self) -> Pulled:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                return self._run()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UnavailableError(self._no_room(str(error.strerror))) from None

    def _run(self) -> Pulled:
        size = self.file.size_bytes
        if self.path.is_file() and self.path.stat().st_size == size:
            digest, _ = _digest_of(self.path)
            if digest.hexdigest() == self.file.sha256:
                self.progress.done_bytes += size
                return Pulled(self.path, size, self.file.sha256, size)
        resumed_at = self._fetch()
        self.part.replace(self.path)
        _sync(self.path.parent)
        return Pulled(self.path, size, self.file.sha256, resumed_at)

    def _fetch(self) -> int:
        with self.part.open("a+b") as to:
            digest, done = _digest_of(self.part)
            if done > self.file.size_bytes:
                to.truncate(0)
                digest, done = hashlib.sha256(), 0
            free = shutil.disk_usage(self.path.parent).free
            if free < self.file.size_bytes - done:
                raise UnavailableError(self._no_room(f"{free} bytes are free"))
            self.progress.done_bytes += done
            resumed_at, waits = done, list(_WAITS_S)
            while done < self.file.size_bytes:
                problem = "the server ended early"
                try:
                    digest, now = self._continue(to, digest, done)
                except UnavailableError as error:
                    problem = str(error)
                    digest, now = _digest_of(self.part)
                if now > done:
                    waits = list(_WAITS_S)
                elif waits:
                    self.sleep(waits.pop(0))
                else:
                    msg = f"{self.name}: {done} of {self.file.size_bytes} bytes are here: {problem}"
                    raise UnavailableError(msg)
                done = now
            os.fsync(to.fileno())
        if digest.hexdigest() != self.file.sha256:
            self.part.unlink()
            self.progress.done_bytes -= done
            msg = (
                f"{self.name}: {self.file.name} has SHA-256 {digest.hexdigest()} instead of "
                f"{self.file.sha256}; it has been deleted"
            )
            raise UnavailableError(msg)
        return resumed_at

    def _continue(self, to: Any, digest: Any, done: int) -> tuple[Any, int]:
        """(digest, bytes) after one answer of the server."""
        with self.hub.open(self.name, self.commit, self.file, done) as (answer, start):
            if start != done:
                to.truncate(0)
                self.progress.done_bytes -= done
                digest, done = hashlib.sha256(), 0
            while done < self.file.size_bytes:
                piece = read(answer, min(_PIECE_BYTES, self.file.size_bytes - done))
                if not piece:
                    break
                to.write(piece)
                to.flush()
                digest.update(piece)
                done += len(piece)
                self.progress.fetched(len(piece))
        return digest, done

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One pull of a file at a time; the next one finds it done."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        with lock.open("wb") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress.note = ", waiting for another pull of the same file"
                fcntl.flock(held, fcntl.LOCK_EX)
                self.progress.note = ""
            yield

    def _no_room(self, why: str) -> str:
        return (
            f"{self.name}: no room for {self.file.size_bytes} bytes in {self.path.parent}: {why}; "
            "what is there already is kept"
        )


def _digest_of(path: Path) -> tuple[Any, int]:
    digest, count = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            count += len(piece)
    return digest, count


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
