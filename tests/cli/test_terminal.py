from __future__ import annotations

import io
import json
import sys
import time

import pytest

from rocmforge.cli import terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PROGRESS_AFTER_S", 0.05)
    monkeypatch.setattr(terminal, "PROGRESS_EVERY_S", 0.05)


@pytest.mark.parametrize("screen", [Screen(), io.StringIO()])
def test_what_is_soon_done_shows_no_progress(
    monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(terminal, "PROGRESS_AFTER_S", 30.0)
    with terminal.progress("loading x"):
        time.sleep(0.1)
    assert screen.getvalue() == ""


def test_what_takes_long_says_so_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("loading x"):
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert out == ""
    assert 2 <= len(err.splitlines()) <= 6
    assert all(line.startswith("loading x (") for line in err.splitlines())


def test_on_a_terminal_a_line_is_kept_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.progress("loading [x]"):
        time.sleep(0.6)
    assert "loading [x]" in screen.getvalue()
    assert screen.getvalue().count("\n") <= 1


def test_progress_ends_with_the_error_it_was_shown_for() -> None:
    with pytest.raises(ZeroDivisionError), terminal.progress("x"):
        raise ZeroDivisionError


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.write_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": "é"}})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": {"d": "é"}}
    assert out.count("\n") == 1


def test_a_model_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\tb\n\x1b[2J\x9b\r\x7fé"
    for screen, expected in (
        (io.StringIO(), text),
        (Screen(), "a\tb\n\ufffd[2J\ufffd\ufffd\ufffdé"),
    ):
        monkeypatch.setattr(sys, "stdout", screen)
        terminal.write_generated(text)
        assert screen.getvalue() == expected


def test_a_character_the_screen_lacks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    terminal.write("a é\n")
    assert raw.getvalue() == b"a ?\n"
