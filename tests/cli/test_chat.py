from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rocmforge import LLM, SamplingParams

CTRL_C, CTRL_D = b"\x03", b"\x04"

# The command line, once its stdin is the terminal that sends it signals. Answers go on after the
# end of the text, so that they are long enough to be stopped.
PROGRAM = """
import dataclasses, fcntl, signal, sys, termios
from rocmforge import LLM
from rocmforge.cli import main
stream_chat = LLM.stream_chat
LLM.stream_chat = lambda llm, messages, params: stream_chat(
    llm, messages, dataclasses.replace(params, ignore_eos=True)
)
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.exit(main())
"""


def with_lines(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_the_history_is_kept(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lines(monkeypatch, "Once upon a time\n\nAnd then\n")
    options = ("--system", "A story.", "--max-tokens", 8, "--temperature", 0, "--json")
    messages = run("chat", *options).json["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [m["content"] for m in messages][:2] == ["A story.", "Once upon a time"]
    with LLM() as llm:
        params = SamplingParams(temperature=0.0, max_tokens=8)
        for turn in (2, 4):
            assert messages[turn]["content"] == llm.chat(messages[:turn], params)[0].text


def test_answers_are_shown_as_they_come(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with_lines(monkeypatch, "Once upon a time\n/exit\nnot read\n")
    ran = run("chat", "--max-tokens", 8, "--temperature", 0)
    assert ran.exit_code == 0
    assert len(ran.out.splitlines()) >= 1
    assert ran.out.endswith("\n")


def test_a_model_without_a_template_is_refused_with_what_to_use(
    run: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bare.gguf"
    path.write_bytes(tiny_model.read_bytes().replace(b".chat_template", b".chat_disabled"))
    with_lines(monkeypatch, "hello\n")
    ran = run("chat", "--model", path)
    assert ran.exit_code == 1
    assert "rocmforge generate" in ran.err


class Terminal:
    """A chat on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "chat", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)

    def wait_for(self, pattern: str, press: bytes = b"") -> None:
        """Reads until `pattern` occurs in what has not been waited for yet.

        `press` is typed every second until then: a signal between readline's prompt and its wait
        for input is seen only when something else is typed.
        """
        deadline, next_press = time.monotonic() + 60, time.monotonic()
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, (pattern, self.seen)
            if press and time.monotonic() >= next_press:
                self.type(press)
                next_press += 1
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.seen = self.seen[match.end() :]

    def type(self, data: bytes) -> None:
        os.write(self.master, data)


def test_ctrl_c_stops_the_answer_and_a_second_one_leaves() -> None:
    terminal = Terminal("--max-tokens", "1000", "--seed", "1")
    terminal.wait_for("> ")
    terminal.type(b"Once upon a time\n")
    terminal.wait_for(r"time\r?\n.")
    terminal.type(CTRL_C)
    terminal.wait_for(r"\(stopped\)")
    terminal.wait_for("> ")
    terminal.wait_for("interrupted", press=CTRL_C)
    assert terminal.process.wait(20) == 130


def test_ctrl_d_leaves() -> None:
    terminal = Terminal()
    terminal.wait_for("> ")
    terminal.type(CTRL_D)
    assert terminal.process.wait(20) == 0
