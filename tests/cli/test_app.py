"""The command line as a whole: usage, exit codes, one line a failure, start-up time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rocmforge.cli import main
from rocmforge.cli.app import COMMANDS
from rocmforge.cli.version import gpu_targets
from rocmforge.errors import (
    CapacityError,
    DeviceError,
    InvalidArgumentError,
    ModelFileError,
    OutOfMemoryError,
    UnavailableError,
    UnsupportedError,
)

ROCMFORGE = [sys.executable, "-m", "rocmforge"]
LOADING = ["generate", "chat", "embed", "bench", "perplexity", "serve"]
EXPECTED_COMMANDS = [*LOADING, "info", "check", "tokenize", "quantize", "pull", "devices", "doctor"]


def test_every_command_of_the_interface_is_there() -> None:
    assert sorted(COMMANDS) == sorted(EXPECTED_COMMANDS)


@pytest.mark.parametrize("command", EXPECTED_COMMANDS)
def test_every_command_has_help_and_json(run: Any, command: str) -> None:
    ran = run(command, "--help")
    assert ran.exit_code == 0
    assert ran.err == ""
    assert "--json" in ran.out
    assert "--debug" in ran.out


@pytest.mark.parametrize("command", LOADING)
def test_every_command_that_loads_a_model_says_how(run: Any, command: str) -> None:
    out = run(command, "--help").out
    for option in (
        "--model",
        "--device",
        "--threads",
        "--ctx",
        "--gpu-layers",
        "--require-gpu",
        "--kv-dtype",
        "--memory-fraction",
        "--deterministic",
    ):
        assert option in out


def test_the_commands_are_told_in_whole_sentences(run: Any) -> None:
    assert "..." not in run("--help").out.partition("Commands:")[2]


def test_what_is_wrong_and_what_to_try_are_two_sentences(run: Any) -> None:
    assert "integer. Try 'rocmforge bench --help'." in run("bench", "-r", "x").err


@pytest.mark.parametrize(
    ("redirection", "exit_code"), [("<&-", 0), (">&-", 0), ("2>&-", 0), (">/dev/full", 1)]
)
def test_a_closed_or_full_stream_is_no_bug(redirection: str, exit_code: int) -> None:
    command = f"{sys.executable} -m rocmforge tokenize - {redirection}"
    ran = subprocess.run(["sh", "-c", command], input=b"hi", capture_output=True, check=False)
    assert ran.returncode == exit_code, ran.stderr
    assert b"a bug" not in ran.stdout + ran.stderr
    assert b"Traceback" not in ran.stderr
    if exit_code:
        assert ran.stderr == b"rocmforge: the output cannot be written: No space left on device\n"


def test_without_arguments_the_help_is_shown_and_the_use_is_wrong(run: Any) -> None:
    ran = run()
    assert ran.exit_code == 2
    assert "Commands:" in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["generate", "--bogus"],
        ["generate", "--temperature", "warm"],
        ["generate", "one", "two"],
        ["tokenize", "--model"],
        ["check"],
        ["bench", "-r", "0"],
        ["--bogus"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run: Any, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert "--help" in ran.err


def raising(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (InvalidArgumentError("top_p is 7"), 2, "top_p is 7"),
        (ModelFileError("cut off", offset=9, key="k"), 1, "cut off (key 'k', offset 9)"),
        (UnsupportedError("no such device"), 1, "no such device"),
        (CapacityError("full"), 1, "full"),
        (UnavailableError("draining"), 1, "draining"),
        (OutOfMemoryError("12 bytes"), 1, "12 bytes"),
        (DeviceError("lost"), 1, "lost"),
        (MemoryError(), 1, "out of memory"),
        (PermissionError(13, "Permission denied", "x"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (InvalidArgumentError("two\nlines\x1b[2J"), 2, "two lines\ufffd[2J"),
    ],
)
def test_a_failure_is_one_line_with_the_exit_code_of_its_class(
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    exit_code: int,
    message: str,
) -> None:
    monkeypatch.setitem(COMMANDS, "devices", raising(error))
    ran = run("devices")
    assert ran.exit_code == exit_code
    assert ran.out == ""
    assert ran.err.splitlines() == [ran.err.rstrip("\n")]
    assert message in ran.err


def test_a_bug_is_one_line_that_names_debug(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "devices", raising(ZeroDivisionError("by zero")))
    ran = run("devices")
    assert ran.exit_code == 1
    assert len(ran.err.splitlines()) == 1
    assert "--debug" in ran.err


def test_debug_shows_the_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "devices", raising(InvalidArgumentError("wrong")))
    ran = run("devices", "--debug")
    assert ran.exit_code == 2
    assert "Traceback" in ran.err
    assert "Traceback" not in run("devices").err


@pytest.mark.parametrize("command", ["check", "info", "tokenize", "generate", "bench"])
@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [("missing", 2), ("directory", 2), ("empty", 1), ("text", 1), ("truncated", 1)],
)
def test_a_path_that_is_no_model_is_one_clear_line(
    run: Any, bad_files: dict[str, Path], command: str, fault: str, exit_code: int
) -> None:
    path = bad_files[fault]
    arguments = [path] if command in ("check", "info") else ["--model", path]
    text = ["hello"] if command in ("tokenize", "generate") else []
    ran = run(command, *text, *arguments)
    assert ran.exit_code == exit_code
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert path.name in ran.err


@pytest.mark.parametrize("command", ["check", "generate", "bench"])
def test_an_unknown_architecture_is_named_with_those_there_are(
    run: Any, bad_files: dict[str, Path], command: str
) -> None:
    path = bad_files["unknown architecture"]
    ran = run(command, path) if command == "check" else run(command, "--model", path)
    assert ran.exit_code == 1
    assert "lamma" in ran.err
    assert "llama" in ran.err


def test_the_module_runs_as_a_program_and_soon() -> None:
    times = []
    for _ in range(3):
        with subprocess.Popen([*ROCMFORGE, "--version"], stdout=subprocess.PIPE, text=True) as done:
            assert done.stdout is not None
            lines = done.stdout.read().splitlines()
            _, status, usage = os.wait4(done.pid, 0)
            done.returncode = os.waitstatus_to_exitcode(status)
        assert done.returncode == 0
        times.append(usage.ru_utime + usage.ru_stime)
    assert lines[0].startswith("rocmforge 0.")
    assert "(commit " in lines[0]
    assert lines[1].startswith("CPU kernels: scalar")
    assert lines[2].startswith("GPU targets: ")
    assert min(times) < 0.3


def test_version_imports_nothing_heavy() -> None:
    code = "import sys, rocmforge.cli as c; c.main(['--version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numpy", "tokenizers", "jinja2", "typer", "rich"}


def test_the_commands_are_known_without_loading_what_they_use() -> None:
    code = "import sys, rocmforge.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "tokenizers", "jinja2"}


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    with subprocess.Popen(
        [*ROCMFORGE, "info", "--tensors", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_the_return_value_is_the_exit_code() -> None:
    done = subprocess.run([*ROCMFORGE, "nonsense"], capture_output=True, check=False)
    assert done.returncode == main(["nonsense"]) == 2


def test_ctrl_c_while_waiting_for_input_is_one_line_and_130(interruptible: list[str]) -> None:
    with subprocess.Popen(
        [*interruptible, "tokenize", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err == "rocmforge: interrupted\n"


def wait_until_reading(pid: int) -> None:
    """Until the process has a handler for SIGINT and sleeps in a read of its stdin."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            call = Path(f"/proc/{pid}/syscall").read_text().split()
        except OSError:
            pytest.skip("the system call of a process cannot be read here")
        if call[:2] == ["0", "0x0"] and os.uname().machine == "x86_64":
            return
        time.sleep(0.02)
    pytest.fail("the command never read its input")


def test_gpu_targets_are_those_with_a_code_object(tmp_path: Path) -> None:
    assert gpu_targets(tmp_path) == []
    (tmp_path / "kernels").mkdir()
    for name in ("gfx942.hsaco", "gfx1100.hsaco", "sm_90.cubin", "notes.txt"):
        (tmp_path / "kernels" / name).write_bytes(b"")
    assert gpu_targets(tmp_path) == ["gfx1100", "gfx942", "sm_90"]
