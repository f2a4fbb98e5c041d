from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cmake_project import built


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(Path(__file__).parent, tmp_path_factory.mktemp("api")) / "api_checks"


@pytest.mark.parametrize("device", ["cpu", "host:0", "host:1"])
def test_every_public_header_works_on_every_kind_of_device(checks: Path, device: str) -> None:
    done = subprocess.run([checks, device], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
