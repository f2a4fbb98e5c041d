"""A sequence on disk: its tokens, and its keys and values as blocks of the cache.

    header    magic, version, block size and bytes, number of tokens, fingerprint of the model,
              SHA-256 of the tokens; SHA-256 of all that
    tokens    int32, little-endian
    blocks    each SHA-256 (of the header's, its number and its bytes), then its bytes

A file is as hostile as any other. Header and tokens are right or an error. A block that is damaged
or missing only ends what can be used: the rest is computed again. Memory is needed for the tokens
and one block.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from rocmforge.errors import InvalidArgumentError, ModelFileError

_MAGIC: Final = b"RFSESSN\n"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIIQQ32s32s")
_DIGEST_BYTES: Final = 32
_TOKENS_AT: Final = _HEADER.size + _DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class SessionHeader:
    fingerprint: bytes  # [32]
    block_size: int  # tokens
    block_bytes: int
    num_tokens: int

    @property
    def num_blocks(self) -> int:
        return -(-self.num_tokens // self.block_size)

    @property
    def file_bytes(self) -> int:
        blocks = self.num_blocks * (_DIGEST_BYTES + self.block_bytes)
        return _TOKENS_AT + 4 * self.num_tokens + blocks


def write_session(
    path: Path,
    header: SessionHeader,
    token_ids: npt.NDArray[np.int32],
    blocks: Iterable[npt.NDArray[np.uint8]],
) -> None:
    """Replaces the file as a whole, or leaves it; for its owner alone to read.

    Raises InvalidArgumentError for a path of anything but a file, and OSError.
    """
    if path.exists() and not path.is_file():
        msg = f"{path} is no regular file, and would be replaced; name another one"
        raise InvalidArgumentError(msg)
    tokens = token_ids.astype("<i4").tobytes()
    packed = _HEADER.pack(
        _MAGIC,
        _VERSION,
        header.block_size,
        header.block_bytes,
        header.num_tokens,
        header.fingerprint,
        hashlib.sha256(tokens).digest(),
    )
    seal = hashlib.sha256(packed).digest()
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(packed + seal + tokens)
            for index, block in enumerate(blocks):
                data = block.tobytes()
                file.write(_block_digest(seal, index, data) + data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class SessionReader:
    """Of an open file; `header` and `token_ids` have been checked."""

    def __init__(self, file: BinaryIO, path: Path, max_tokens: int) -> None:
        self._file = file
        self._path = path
        packed = file.read(_HEADER.size)
        self._seal = file.read(_DIGEST_BYTES)
        if len(self._seal) < _DIGEST_BYTES or not packed.startswith(_MAGIC):
            self._fail("this is no saved session", 0)
        if hashlib.sha256(packed).digest() != self._seal:
            self._fail("the header's checksum is wrong", 0)
        _, version, size, nbytes, count, fingerprint, tokens_digest = _HEADER.unpack(packed)
        if version != _VERSION:
            self._fail(f"version {version} of saved sessions is not known, {_VERSION} is", 8)
        if size == 0 or count == 0:
            self._fail("a session has tokens, and blocks of some", 12)
        self.header = SessionHeader(fingerprint, size, nbytes, count)
        on_disk = os.fstat(file.fileno()).st_size
        if on_disk < _TOKENS_AT + 4 * count or on_disk > self.header.file_bytes:
            self._fail(f"{on_disk} bytes are no session of {count} tokens", 24)
        if count > max_tokens:
            msg = f"{path}: a session of {count} tokens; the context has {max_tokens}"
            raise InvalidArgumentError(msg)
        tokens = file.read(4 * count)
        if hashlib.sha256(tokens).digest() != tokens_digest:
            self._fail("the checksum of the tokens is wrong", _TOKENS_AT)
        self.token_ids: npt.NDArray[np.int32] = np.frombuffer(tokens, "<i4").astype(np.int32)

    def blocks(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Those that are whole, up to the first that is not; of a file that is, all."""
        for index in range(self.header.num_blocks):
            digest = self._file.read(_DIGEST_BYTES)
            data = self._file.read(self.header.block_bytes)
            if digest != _block_digest(self._seal, index, data):
                return
            yield np.frombuffer(data, np.uint8)

    def _fail(self, what: str, offset: int) -> None:
        msg = f"{self._path}: {what}"
        raise ModelFileError(msg, offset=offset)


@contextmanager
def opened_session(path: Path, max_tokens: int) -> Iterator[SessionReader]:
    """Raises ModelFileError for what is no session, InvalidArgumentError for one that is too long
    or no regular file."""
    # Not blocking: a pipe would have one wait for whoever writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            msg = f"{path} is no regular file"
            raise InvalidArgumentError(msg)
        yield SessionReader(file, path, max_tokens)


def _block_digest(seal: bytes, index: int, data: bytes) -> bytes:
    return hashlib.sha256(seal + index.to_bytes(8, "little") + data).digest()
