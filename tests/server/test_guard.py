"""Who may ask for what: keys, the Host header, and what stays open."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from served import SMALL, Served, serving, wait_for

from rocmforge.errors import InvalidArgumentError
from rocmforge.server.keys import ApiKeys
from rocmforge.server.settings import ServerSettings

KEY, OTHER = "a-key-of-sixteen-bytes", "another-key-of-some-bytes"
PROMPT = "The king had a daughter, and she was as fair as the day is long. " * 4


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("locked")
    keys = folder / "keys"
    keys.write_text(f"# for tests\n{KEY}\n\n{OTHER}\n")
    with serving(folder, *SMALL, "--docs", "--api-key-file", str(keys)) as served:
        yield served


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def routes() -> list[tuple[str, str]]:
    """All of the application's, as it has them."""
    from rocmforge.server.app import ROUTERS

    return [
        ("GET", "/openapi.json"),
        *(
            (method, route.path.replace("{name}", "x"))  # type: ignore[attr-defined]
            for router in ROUTERS
            for route in router.routes
            for method in route.methods  # type: ignore[attr-defined]
        ),
    ]


def test_every_route_but_the_open_ones_needs_a_key(locked: Served) -> None:
    paths = {path for _, path in routes()}
    assert {"/v1/chat/completions", "/metrics", "/tokenize", "/v1/models"} <= paths
    wrong = [
        {},
        bearer("x" * 20),
        bearer(KEY[:-1]),
        bearer(KEY + "x"),
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"X-Api-Key": KEY},
        bearer(hashlib.sha256(KEY.encode()).hexdigest()),
    ]
    for method, path in routes():
        for headers in wrong:
            response = locked.request(method, path, headers=headers)
            expected = 200 if path in ("/", "/health", "/ready") else 401
            assert response.status_code == expected, (method, path, headers)
    assert httpx.get(f"{locked.url}/v1/nothing").status_code == 401
    for key in (KEY, OTHER):
        assert locked.get("/v1/models", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "path", ["//health", "/health/../v1/models", "/v1/models?/health", "/health%2f..%2fmetrics"]
)
def test_a_path_that_resembles_an_open_one_is_closed(locked: Served, path: str) -> None:
    with httpx.Client() as client:
        request = client.build_request("GET", locked.url)
        request.url = httpx.URL(locked.url, raw_path=path.encode())
        assert client.send(request).status_code in (401, 404)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "localhost/health?x=",
        "a/?x=",
        "",
        "localhost:80/health",
        "[::1",
        "[::1]x",
        "10.0.0.1",
    ],
)
def test_a_foreign_host_header_is_refused(locked: Served, host: str) -> None:
    headers = {"Host": host, **bearer(KEY)}
    assert locked.get("/v1/models", headers=headers).status_code == 421
    assert locked.get("/health", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:9"])
def test_a_local_host_header_is_taken(locked: Served, host: str) -> None:
    assert locked.get("/health", headers={"Host": host}).status_code == 200


def test_keys_do_not_share_prefixes(locked: Served) -> None:
    def cached_tokens(key: str) -> int:
        body = {"prompt": PROMPT, "max_tokens": 1}
        answer = locked.post("/v1/completions", body, headers=bearer(key)).json()
        return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached_tokens(KEY) == 0
    assert cached_tokens(KEY) > 0
    assert cached_tokens(OTHER) == 0
    assert cached_tokens(OTHER) > 0


def test_sighup_reads_the_keys_again_and_keeps_them_if_it_cannot(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(KEY)
    with serving(tmp_path, *SMALL, "--api-key-file", str(file)) as served:

        def statuses() -> list[int]:
            return [
                served.get("/v1/models", headers=bearer(key)).status_code for key in (KEY, OTHER)
            ]

        def reload(text: str, word: str) -> None:
            file.write_text(text)
            served.process.send_signal(signal.SIGHUP)
            wait_for(lambda: word in served.log.read_text())

        assert statuses() == [200, 401]
        reload("short", "stay as they are")
        assert statuses() == [200, 401]
        reload(OTHER, "read again")
        assert statuses() == [401, 200]


def test_the_log_has_ids_and_counts_but_no_keys_and_no_content(locked: Served) -> None:
    body = {"prompt": "xylophone", "max_tokens": 3, "temperature": 0}
    headers = {**bearer(KEY), "X-Request-Id": "mine\x01"}
    response = locked.post("/v1/completions?secret=1", body, headers=headers)
    ours = response.headers["x-request-id"]
    wait_for(lambda: ours in locked.log.read_text())  # written once the answer is out
    (entry,) = [e for e in locked.log_entries() if e.get("request_id") == ours]
    assert entry["route"] == "/v1/completions"
    assert entry["status"] == 200
    assert entry["completion_tokens"] == 3
    assert entry["client_request_id"].startswith("mine")
    log = locked.log.read_text()
    for secret in (KEY, "xylophone", "secret", response.json()["choices"][0]["text"]):
        assert secret not in log
    assert "\x01" not in log


def test_a_server_that_others_can_reach_does_not_start_without_a_key(tmp_path: Path) -> None:
    def keys(**flags: object) -> ApiKeys:
        return ApiKeys.of(ServerSettings.load(**flags))

    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):  # noqa: S104
        with pytest.raises(InvalidArgumentError, match="api-key-file"):
            keys(host=host)
        assert not keys(host=host, insecure_no_auth=True)
        assert keys(host=host, api_key=KEY)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert not keys(host=host)
    with pytest.raises(InvalidArgumentError, match="5 bytes"):
        keys(api_key="short")
    empty = tmp_path / "keys"
    empty.write_text("# none\n")
    with pytest.raises(InvalidArgumentError, match="no keys"):
        keys(api_key_file=empty)
    with pytest.raises(InvalidArgumentError, match="cannot be read"):
        keys(api_key_file=tmp_path / "missing")
