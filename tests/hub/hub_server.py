"""A stand-in for the hub: its listing, its redirection to storage with ranges, and its faults."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """One repository, owner/repo. Attributes change how it answers; `requests` is what was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        self.token: str | None = None  # who does not send it gets 401
        self.break_after: list[int] = []  # bytes of the next answers, which then break
        self.status: list[int] = []  # of the next answers from the storage
        self.ranges = True
        self.wrong_range = False
        self.redirect_to: str | None = None
        self.listing: bytes | None = None
        self.endless = False
        self.gate = threading.Event()  # answers from the storage wait for it
        self.gate.set()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.endpoint = ""

    def siblings(self) -> list[dict[str, Any]]:
        return [
            {
                "rfilename": name,
                "size": len(data),
                "lfs": {"sha256": self.sha256[name], "size": len(data), "pointerSize": 134},
            }
            for name, data in self.files.items()
        ]

    def fetched(self) -> list[str]:
        """The ranges that were asked of the storage; "" for a whole file."""
        return [h.get("Range", "") for path, h in self.requests if path.startswith("/storage/")]


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[FakeHub]:
    hub = FakeHub(files)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            hub.requests.append((path, dict(self.headers)))
            if path.startswith("/storage/"):
                return self.storage(path.removeprefix("/storage/"))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.send_error(401)
            if path == "/api/models/owner/repo":
                listing = json.dumps({"sha": COMMIT, "siblings": hub.siblings()}).encode()
                return self.answer(200, listing if hub.listing is None else hub.listing, {})
            start = f"/owner/repo/resolve/{COMMIT}/"
            if path.startswith(start):
                to = hub.redirect_to or f"/storage/{path.removeprefix(start)}"
                return self.answer(302, b"", {"Location": to})
            return self.send_error(404)

        def storage(self, name: str) -> None:
            hub.gate.wait(20)
            if hub.status:
                return self.send_error(hub.status.pop(0))
            data, begin, headers = hub.files[name], 0, {}
            wanted = self.headers.get("Range")
            if wanted and hub.ranges:
                begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
                shown = begin + 1 if hub.wrong_range else begin
                headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
            body = data[begin:] + (b"x" * 4096 if hub.endless else b"")
            return self.answer(206 if headers else 200, body, headers)

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if status in (200, 206) and hub.break_after and self.path.startswith("/storage/"):
                body = body[: hub.break_after.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
