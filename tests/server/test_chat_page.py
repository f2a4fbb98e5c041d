"""The chat page, as it is sent and in a browser."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import PATIENCE_S, SMALL, Served, serving, wait_for

KEY = "a-key-of-sixteen-bytes"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_the_page_needs_nothing_from_elsewhere(server: Served) -> None:
    response = server.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert not re.search(r"https?://|src=|href=|@import|url\(|innerHTML|eval", response.text)


# The model is free to end its answer at once, which would leave nothing to stop.
ENDLESS = """
const sent = window.fetch;
window.fetch = (url, options) => sent(url, options?.body === undefined ? options : {
  ...options, body: JSON.stringify({...JSON.parse(options.body), ignore_eos: true})});
"""


class Browser:
    """Headless Chromium, spoken to over its debugging pipe."""

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._data = b""
        self._ids = itertools.count(1)
        self._session: str | None = None
        self.problems: list[Any] = []

    def open(self, url: str) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        wait_for(lambda: self.run("document.readyState") == "complete")

    def run(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script)["result"].get("value")

    def call(self, method: str, **params: Any) -> Any:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _note(self, event: Any) -> None:
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(event["params"])
        elif event.get("method") == "Page.javascriptDialogOpening":
            answer = {"accept": True, "promptText": KEY}
            message = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": answer}
            data = json.dumps({**message, "sessionId": self._session}).encode()
            os.write(self._write, data + b"\0")

    def _next(self) -> Any:
        while b"\0" not in self._data:
            assert select.select([self._read], [], [], PATIENCE_S)[0], "the browser is silent"
            data = os.read(self._read, 65536)
            assert data, "the browser is gone"
            self._data += data
        first, _, self._data = self._data.partition(b"\0")
        return json.loads(first)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    process = subprocess.Popen(
        [
            *("bash", "-c", f'exec "$@" 3<&{to_read} 4>&{from_write}', "sh", CHROMIUM),
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
        ],
        pass_fds=(to_read, from_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(to_write, from_read)
    finally:
        process.kill()
        process.wait()
        for descriptor in (to_write, from_read):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def test_the_page_asks_for_the_key_streams_stops_and_clears(
    browser: Browser, tmp_path: Path
) -> None:
    with serving(tmp_path, *SMALL, ROCMFORGE_API_KEY=KEY) as served:
        browser.open(served.url)
        text = "document.getElementById({!r}).textContent".format
        wait_for(lambda: "parts on cpu" in (browser.run(text("where")) or ""))
        assert browser.run(text("model")) == "stories-14m-Q4_K_M"

        browser.run(ENDLESS)

        def say(words: str) -> None:
            browser.run(
                f"document.getElementById('text').value = {json.dumps(words)};"
                "document.getElementById('form').requestSubmit()"
            )

        answer = "[...document.querySelectorAll('.assistant')].at(-1).textContent"
        say("<b>Once upon a time")
        wait_for(lambda: len(browser.run(answer) or "") > 40)
        assert browser.run("document.querySelectorAll('.user b').length") == 0
        browser.run("document.getElementById('stop').click()")
        wait_for(lambda: bool(browser.run("document.getElementById('stop').hidden")))
        assert re.fullmatch(r"\d+ tokens, [\d.]+ tokens/s", browser.run(text("speed")))
        headers = {"Authorization": f"Bearer {KEY}"}
        wait_for(lambda: served.get("/v1/status", headers=headers).json()["pending_requests"] == 0)
        say("And then?")
        wait_for(lambda: browser.run("document.querySelectorAll('.message').length") == 4)
        wait_for(lambda: len(browser.run(answer) or "") > 0)
        browser.run("document.getElementById('clear').click()")
        assert browser.run("document.querySelectorAll('.message').length") == 0
        # The first answer to /v1/placement is 401, which browsers log.
        problems = [p for p in browser.problems if "401" not in json.dumps(p)]
        assert problems == []
