"""How the server starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from served import SMALL, events_of, serving, terminate, wait_for

LONG = {"prompt": "Once upon a time", "max_tokens": 480, "ignore_eos": True, "stream": True}
# Many seconds of work, which nobody waits for.
MUCH = {**LONG, "prompt": ["Once upon a time"] * 8, "n": 8}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_an_idle_server_ends_at_once_and_takes_its_engine_along(
    tmp_path: Path, signal_: signal.Signals
) -> None:
    with serving(tmp_path, *SMALL) as served:
        (engine,) = served.children()
        served.process.send_signal(signal_)
        assert served.process.wait(10) == 0
        wait_for(lambda: not is_running(engine))
        assert "Traceback" not in served.log.read_text()


def test_server_and_engine_have_no_way_to_more_rights_and_leave_no_core_file(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, *SMALL) as served:
        for pid in (served.process.pid, *served.children()):
            status = Path(f"/proc/{pid}/status").read_text()
            assert "NoNewPrivs:\t1\n" in status
            assert "Umask:\t0077\n" in status
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"Max core file size +0 +0 ", limits)


def test_sigterm_lets_running_requests_end_and_takes_no_new_ones(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL) as served, httpx.Client(base_url=served.url) as client:
        with client.stream(
            "POST", "/v1/completions", json={**LONG, "n": 8}, timeout=30
        ) as response:
            chunks = response.iter_raw()
            text = next(chunks).decode()
            served.process.send_signal(signal.SIGTERM)
            wait_for(lambda: served.get("/ready").status_code == 503)
            refused = served.post("/v1/completions", {"prompt": "x"})
            assert refused.status_code == 503
            assert refused.headers["connection"] == "close"
            assert refused.headers["retry-after"] == "1"
            text += "".join(chunk.decode() for chunk in chunks)
        assert events_of(text)[-1] == "[DONE]"
        assert served.process.wait(10) == 0


def test_at_the_drain_limit_the_rest_ends_with_an_error(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL, "--drain", "0") as served:
        url = f"{served.url}/v1/completions"
        with httpx.stream("POST", url, json=MUCH, timeout=30) as response:
            chunks = response.iter_raw()
            text = next(chunks).decode()
            served.process.send_signal(signal.SIGTERM)
            text += "".join(chunk.decode() for chunk in chunks)
        assert events_of(text)[-1]["error"]["code"] == "unavailable"
        assert served.process.wait(10) == 0


def test_clients_that_do_not_get_on_do_not_keep_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL, "--drain", "0.2") as served:
        address = (urlsplit(served.url).hostname, urlsplit(served.url).port)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        body = json.dumps({**MUCH, "logprobs": 20}).encode()
        with socket.create_connection(address) as half, socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect(address)
            half.sendall(head)
            lazy.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            lazy.recv(100)
            started_at = time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(30) == 0
            assert time.monotonic() - started_at < 0.2 + 5


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, *SMALL) as served:
        url = f"{served.url}/v1/completions"
        with httpx.stream("POST", url, json=MUCH, timeout=30) as response:
            next(response.iter_raw())
            (engine,) = served.children()
            served.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "draining" in served.log.read_text())
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(10) == 1
        wait_for(lambda: not is_running(engine))


def test_settings_come_from_flags_then_the_environment_then_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('ctx = 64\nmemory_fraction = 0.05\nallowed_hosts = ["a.example"]\n')
    with serving(
        tmp_path, "--threads", "1", ROCMFORGE_CONFIG=str(file), ROCMFORGE_CTX="96"
    ) as served:
        assert served.get("/v1/models").json()["data"][0]["max_model_len"] == 96
        assert served.get("/health", headers={"Host": "a.example"}).status_code == 200
        assert terminate(served) == 0
    with serving(tmp_path, "--ctx", "128", "--config", str(file), ROCMFORGE_CTX="96") as served:
        assert served.get("/v1/models").json()["data"][0]["max_model_len"] == 128


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--port", "99999"], 2, "port"),
        (["--host", "0.0.0.0"], 2, "--api-key-file"),  # noqa: S104
        (["--host", "999.1.1.1", "--insecure-no-auth"], 2, "cannot listen"),
        (["--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
        (["--model", "/nonexistent.gguf"], 2, "/nonexistent.gguf"),
        (["--model", __file__], 1, "test_shutdown.py"),
        (["--device", "cuda:0"], 1, "no usable GPU"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_a_server_that_cannot_start_says_why_in_one_line(
    arguments: list[str], code: int, words: str
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "rocmforge", "serve", "--port", "0", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == code, ran.stderr
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert words in ran.stderr


def test_a_port_that_another_server_has_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ran = subprocess.run(
            [sys.executable, "-m", "rocmforge", "serve", "--port", port],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert f"127.0.0.1 port {port}" in ran.stderr
