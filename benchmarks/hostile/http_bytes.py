"""HTTP that parsers disagree on, and bytes that are none."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from hostile.bodies import CHAT, COMPLETIONS
from hostile.exchange import ANY, REFUSED, Hostile, raw


def http() -> Iterator[Hostile]:
    body = b'{"prompt": "a", "max_tokens": 1}'
    small = f"Content-Length: {len(body)}"
    line = f"POST {COMPLETIONS} HTTP/1.1"
    none = frozenset({404})
    for name, data, statuses in (
        ("an unknown path", raw("GET /nothing HTTP/1.1"), none),
        ("a path of vLLM's", raw("POST /v1/update_weights HTTP/1.1"), none),
        ("a path that pauses", raw("POST /pause HTTP/1.1"), none),
        ("another of OpenAI's", raw("POST /v1/responses HTTP/1.1"), none),
        ("a path that climbs", raw("GET /../../../etc/passwd HTTP/1.1"), none),
        ("an encoded path that climbs", raw("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1"), none),
        ("a path with a zero", raw("GET /health%00 HTTP/1.1"), none),
        ("a path that is not UTF-8", raw("GET /%ff%fe HTTP/1.1"), none),
        ("two slashes", raw("GET //v1/models HTTP/1.1"), none),
        ("a semicolon", raw("GET /v1/..;/health HTTP/1.1"), none),
        ("a model that climbs", raw("GET /v1/models/..%2f..%2fetc%2fpasswd HTTP/1.1"), none),
        ("an absolute target", raw("GET http://evil.example/health HTTP/1.1"), ANY),
        ("an asterisk", raw("OPTIONS * HTTP/1.1"), frozenset({400, 404, 405})),
        ("no target", raw("GET HTTP/1.1"), REFUSED),
        ("a long target", raw("GET /" + "a" * 9000 + " HTTP/1.1"), frozenset({414})),
        ("a long query", raw("GET /health?" + "a" * 9000 + " HTTP/1.1"), frozenset({414})),
        ("GET", raw(f"GET {COMPLETIONS} HTTP/1.1"), frozenset({405})),
        ("HEAD", raw(f"HEAD {COMPLETIONS} HTTP/1.1"), frozenset({405})),
        ("DELETE", raw("DELETE /v1/models/x HTTP/1.1"), frozenset({405})),
        ("PUT", raw(f"PUT {COMPLETIONS} HTTP/1.1", small, rest=body), frozenset({405})),
        ("TRACE", raw("TRACE / HTTP/1.1"), frozenset({405})),
        ("CONNECT", raw("CONNECT example.org:443 HTTP/1.1"), frozenset({400, 404, 405})),
        ("a method of a kilobyte", raw("A" * 1000 + " / HTTP/1.1"), frozenset({400, 405})),
        ("a preflight", raw(f"OPTIONS {CHAT} HTTP/1.1", "Origin: http://x"), frozenset({405})),
        ("101 headers", raw("GET /health HTTP/1.1", *["X: y"] * 101), frozenset({431})),
        ("10,000 headers", raw("GET /health HTTP/1.1", *["X: y"] * 10_000), frozenset({400, 431})),
        ("a header of a megabyte", raw("GET /health HTTP/1.1", "X: " + "y" * 2**20), frozenset({400, 431})),
        ("a header without a name", raw("GET /health HTTP/1.1", ": y"), REFUSED),
        ("a header with a space", raw("GET /health HTTP/1.1", "A b: y"), REFUSED),
        ("a header with a zero", raw("GET /health HTTP/1.1", "A: b\0c"), REFUSED),
        ("a folded header", raw("GET /health HTTP/1.1", "A: b", "  c"), frozenset({200, 400})),
        ("a space before the colon", raw(line, "Content-Length : 5"), REFUSED),
        ("a foreign host", raw("GET /health HTTP/1.1", host="evil.example"), frozenset({421})),
        ("a host with a path", raw("GET /v1/models HTTP/1.1", host="localhost/health?x="), frozenset({421})),
        ("a host with a user", raw("GET /health HTTP/1.1", host="localhost@evil"), frozenset({421})),
        ("a host of a megabyte", raw("GET /health HTTP/1.1", host="a" * 2**20), frozenset({400, 431})),
        ("two hosts", raw("GET /health HTTP/1.1", "Host: evil.example"), REFUSED),
        ("no host", raw("GET /health HTTP/1.1", host=""), REFUSED),
        ("lengths that differ", raw(line, small, "Content-Length: 5", rest=body), REFUSED),
        ("a negative length", raw(line, "Content-Length: -1"), REFUSED),
        ("a length with a sign", raw(line, "Content-Length: +5", rest=body), REFUSED),
        ("a length in hexadecimal", raw(line, "Content-Length: 0x20", rest=body), REFUSED),
        ("a length beyond 64 bits", raw(line, "Content-Length: 99999999999999999999"), frozenset({413})),
        ("a length and chunks", raw(line, small, "Transfer-Encoding: chunked", rest=b"0\r\n\r\n"), REFUSED),
        ("two codings", raw(line, "Transfer-Encoding: gzip, chunked", rest=b"0\r\n\r\n"), frozenset({400, 501})),
        ("an unknown coding", raw(line, "Transfer-Encoding: xchunked", rest=b"0\r\n\r\n"), frozenset({400, 501})),
        ("a chunk that is no number", raw(line, "Transfer-Encoding: chunked", rest=b"zz\r\n"), REFUSED),
        ("a negative chunk", raw(line, "Transfer-Encoding: chunked", rest=b"-1\r\n"), REFUSED),
        ("a chunk beyond 64 bits", raw(line, "Transfer-Encoding: chunked", rest=b"f" * 40 + b"\r\n"), REFUSED),
        ("a chunk that ends elsewhere", raw(line, "Transfer-Encoding: chunked", rest=b"3\r\nabcXX0\r\n\r\n"), REFUSED),
        ("a gzip bomb", raw(line, "Content-Encoding: gzip", rest=gzip.compress(b"a" * 10**6)), frozenset({415})),
        ("brotli", raw(line, small, "Content-Encoding: br", rest=body), frozenset({415})),
        ("multipart", raw(line, small, "Content-Type: multipart/form-data; boundary=x", rest=body), frozenset({200, 400, 415})),
        ("an expectation", raw(line, small, "Expect: something", rest=body), frozenset({200, 400})),
        ("a range", raw("GET / HTTP/1.1", "Range: bytes=" + "0-1," * 2000 + "0-1"), frozenset({200})),
        ("a socket", raw("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"), frozenset({200, 400})),
        ("a line to log", raw("GET /health HTTP/1.1", "X-Request-Id: a\x1b[31m\x07"), frozenset({200, 400})),
        ("a forwarded address", raw("GET /health HTTP/1.1", "X-Forwarded-For: 127.0.0.1"), frozenset({200})),
        ("HTTP/0.9", b"GET /health\r\n\r\n", REFUSED),
        ("HTTP/3.0", raw("GET /health HTTP/3.0"), frozenset({200, 400, 505})),
        ("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frozenset({400, 421})),
        ("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n", REFUSED),
        ("bare line feeds", b"GET /health HTTP/1.1\nHost: localhost\nConnection: close\n\n", frozenset({200, 400})),
        ("zeros", b"\0" * 5000 + b"\r\n\r\n", REFUSED),
        ("an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", REFUSED),
        ("a mail", b"EHLO example.org\r\n\r\n", REFUSED),
    ):  # fmt: skip
        yield Hostile(name, data, statuses, may_be_closed=len(data) > 16_384 or b"X" * 2 in data)
