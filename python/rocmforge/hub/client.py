"""What is asked of the hub: the files of a repository, and their bytes from some place on.

On http.client, because resuming across calls and checksums are this package's own business (the
hub's own client drops what it has of a file when a call fails, and checks sizes alone).
"""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from rocmforge.errors import InvalidArgumentError, UnavailableError, UnsupportedError
from rocmforge.hub.names import ModelName

ENDPOINT: Final = "https://huggingface.co"
TIMEOUT_S: Final = 30.0
# Where the hub keeps what its own host only points to.
_STORAGE: Final = ("huggingface.co", "hf.co")
_MAX_REDIRECTS: Final = 5
_MAX_LISTING_BYTES: Final = 64 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    name: str
    size_bytes: int
    sha256: str


class Hub:
    """`endpoint` and `token` default to HF_ENDPOINT and HF_TOKEN of the environment."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self._token = token or os.environ.get("HF_TOKEN") or None
        self._scheme, self._host = _checked_endpoint(self.endpoint)
        if self._token is not None and not re.fullmatch("[!-~]+", self._token):
            msg = "HF_TOKEN has a space, a line end or another character that no token has"
            raise InvalidArgumentError(msg)

    def names(self, name: ModelName) -> tuple[str, list[dict[str, Any]]]:
        """(commit, entries) of a repository's main branch."""
        with self._get(f"{self.endpoint}/api/models/{name.repository}?blobs=true", name) as answer:
            text = _whole(answer)
        try:
            if len(text) > _MAX_LISTING_BYTES:
                raise ValueError
            listing = json.loads(text)
            commit, entries = listing["sha"], listing["siblings"]
            if not (re.fullmatch(r"[0-9a-f]{7,64}", commit) and isinstance(entries, list)):
                raise ValueError
            return commit, [entry for entry in entries if isinstance(entry["rfilename"], str)]
        except (ValueError, KeyError, TypeError, RecursionError):
            msg = f"{self.endpoint} answers for {name.repository} with no list of files"
            raise UnavailableError(msg) from None

    def describe(self, name: ModelName, entry: dict[str, Any]) -> RemoteFile:
        """Raises UnsupportedError for a file whose checksum the hub does not tell."""
        match entry.get("lfs"):
            case {"size": int(size), "sha256": str(sha256)} if size > 0 and _SHA256.fullmatch(
                sha256
            ):
                return RemoteFile(entry["rfilename"], size, sha256)
        msg = f"{name}: the hub tells no size and SHA-256 of {entry['rfilename']!r}"
        raise UnsupportedError(msg)

    @contextmanager
    def open(
        self, name: ModelName, commit: str, file: RemoteFile, start: int
    ) -> Iterator[tuple[http.client.HTTPResponse, int]]:
        """(answer, place of its first byte); the place is `start`, or 0 if the server starts over."""
        url = f"{self.endpoint}/{name.repository}/resolve/{commit}/{quote(file.name)}"
        with self._get(url, name, {"Range": f"bytes={start}-"} if start else {}) as answer:
            if answer.status != http.client.PARTIAL_CONTENT:
                yield answer, 0
                return
            given = re.match(r"bytes (\d+)-\d+/(\d+)$", answer.headers.get("Content-Range", ""))
            if given is None or (int(given[1]), int(given[2])) != (start, file.size_bytes):
                msg = f"{name}: the server sends another part of {file.name} than was asked for"
                raise UnavailableError(msg)
            yield answer, start

    @contextmanager
    def _get(
        self, url: str, name: ModelName, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        for _ in range(_MAX_REDIRECTS):
            connection, path = self._connection(url)
            try:
                sent = {"User-Agent": "rocmforge", "Accept-Encoding": "identity", **(headers or {})}
                if self._token and url.startswith(f"{self.endpoint}/"):  # nobody else's to see
                    sent["Authorization"] = f"Bearer {self._token}"
                try:
                    connection.request("GET", path, headers=sent)
                    answer = connection.getresponse()
                except (OSError, http.client.HTTPException) as error:
                    msg = f"cannot reach {connection.host}: {type(error).__name__}: {error}"
                    raise UnavailableError(msg) from error
                location = answer.headers.get("Location")
                if answer.status in (301, 302, 303, 307, 308) and location:
                    url = urljoin(url, location)
                    continue
                _raise_for(answer.status, name)
                yield answer
                return
            finally:
                connection.close()
        msg = f"{name}: more than {_MAX_REDIRECTS} redirections"
        raise UnavailableError(msg)

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        """Only to the endpoint's host and the hub's storage; never from https to http."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        known = host == self._host or any(host == s or host.endswith(f".{s}") for s in _STORAGE)
        if not known or parts.scheme not in ("https", self._scheme):
            msg = f"the hub points to {parts.scheme}://{host}, where nothing is fetched from"
            raise UnavailableError(msg)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        return kind(host, parts.port, timeout=TIMEOUT_S), path


def _checked_endpoint(endpoint: str) -> tuple[str, str]:
    """(scheme, host). Raises InvalidArgumentError for what is no address."""
    try:
        parts = urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and parts.port != 0  # ports are checked here
    except ValueError:
        is_address = False
    if not is_address or not parts.hostname or not re.fullmatch("[!-~]+", endpoint):
        msg = f"the hub's endpoint is {endpoint!r}, which is no http(s) address; see HF_ENDPOINT"
        raise InvalidArgumentError(msg)
    return parts.scheme, parts.hostname


def read(answer: http.client.HTTPResponse, most: int) -> bytes:
    """Some bytes of a body, none at its end. Raises UnavailableError if the connection breaks."""
    try:
        return answer.read1(most)
    except (OSError, http.client.HTTPException) as error:
        msg = f"the connection broke: {type(error).__name__}: {error}"
        raise UnavailableError(msg) from error


def _whole(answer: http.client.HTTPResponse) -> bytes:
    text = b""
    while len(text) <= _MAX_LISTING_BYTES and (piece := read(answer, 1 << 20)):
        text += piece
    return text[: _MAX_LISTING_BYTES + 1]


def _raise_for(status: int, name: ModelName) -> None:
    if status in (200, 206):
        return
    if status in (401, 403):
        msg = (
            f"{name}: the hub lets nobody have this without a token that may (status {status}); "
            "accept the model's terms on its page and set HF_TOKEN"
        )
        raise InvalidArgumentError(msg)
    if status == 404:
        msg = f"{name}: the hub knows no such repository or file"
        raise InvalidArgumentError(msg)
    msg = f"{name}: the hub answers with status {status}; try again later"
    raise UnavailableError(msg)
