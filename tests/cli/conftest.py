"""The command line run in this process: exit code, stdout and stderr of one call."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.cli import main
from rocmforge.model.loader import embedded_model


@dataclass(frozen=True)
class Ran:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object that stdout has to be."""
        assert self.exit_code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        exit_code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(exit_code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def interruptible() -> list[str]:
    """The command line for tests that press Ctrl-C.

    A shell's background jobs, which a test run may be one of, hand down that SIGINT is ignored.
    """
    program = (
        "import signal, sys; from rocmforge.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    )
    return [sys.executable, "-c", program]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("cli") / "tiny.gguf", "llama", "Q8_0")


@pytest.fixture(scope="session")
def story_model() -> Path:
    return embedded_model()


@pytest.fixture(scope="session")
def bad_files(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths that no command can use, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("bad")
    data = tiny_model.read_bytes()
    contents = {
        "empty": b"",
        "text": b"This is not a model, it only has the name of one.\n" * 40,
        "truncated": data[: len(data) // 2],
        "unknown architecture": data.replace(b"llama", b"lamma"),
    }
    paths = {"missing": folder / "none.gguf", "directory": folder}
    for name, content in contents.items():
        paths[name] = folder / f"{name.replace(' ', '-')}.gguf"
        paths[name].write_bytes(content)
    return paths
