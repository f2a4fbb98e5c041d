"""What a machine can read of the files for containers, services and wheels, which nothing runs here."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from rocmforge import ServerSettings
from rocmforge.cli.app import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
GUIDE = ROOT / "docs" / "deployment.md"
# Read from the environment, and no settings of the server.
OTHER_VARIABLES = {"ROCMFORGE_MODELS", "ROCMFORGE_CONFIG", "ROCMFORGE_GPU_TARGETS"}
KNOWN = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(name, arguments), continued lines joined, comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (line.split()[0], line.partition(" ")[2].strip())
        for line in text.splitlines()
        if line.strip()
    ]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    start = max(i for i, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def test_there_is_one_for_cpus_and_one_for_rocm() -> None:
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "rocm.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_a_user_by_number_and_starts_the_server(path: Path) -> None:
    assert {name for name, _ in instructions(path)} <= KNOWN
    stage = dict(last_stage(path))
    assert re.fullmatch(r"[1-9]\d+", stage["USER"])
    assert json.loads(stage["ENTRYPOINT"]) == ["rocmforge"]
    assert json.loads(stage["CMD"])[0] in COMMANDS
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert f"ROCMFORGE_PORT={stage['EXPOSE']}" in stage["ENV"]
    command = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])
    compile(command[-1], "HEALTHCHECK", "exec")
    assert f"127.0.0.1', {stage['EXPOSE']}" in command[-1]
    assert "'/health'" in command[-1]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_made_of_named_versions_and_holds_no_secret(path: Path) -> None:
    found = instructions(path)
    defaults = dict(text.split("=", 1) for name, text in found if name == "ARG" and "=" in text)
    for _, image in [pair for pair in found if pair[0] == "FROM"]:
        name = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], image.split(" AS ")[0])
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", name)
        assert not name.endswith(":latest")
    for _, text in [pair for pair in found if pair[0] == "RUN" and "apt-get install" in pair[1]]:
        assert "--no-install-recommends" in text
        assert "rm -rf /var/lib/apt/lists" in text
    assert not re.search(r"(?i)(key|token|password|secret)\s*=", path.read_text().split("FROM")[-1])


def test_what_an_image_is_built_from_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert all((ROOT / name).exists() for name in sent)
    named = set(re.findall(r"add_subdirectory\((\w+)", (ROOT / "CMakeLists.txt").read_text()))
    assert named - {"tests"} <= sent
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= sent


def test_every_variable_of_the_guide_and_the_images_is_a_setting() -> None:
    text = "".join(path.read_text() for path in [*DOCKERFILES, GUIDE, ROOT / ".env.example"])
    names = set(re.findall(r"ROCMFORGE_[A-Z_]*[A-Z]", text)) - OTHER_VARIABLES
    settings = {f"ROCMFORGE_{name.upper()}" for name in ServerSettings.model_fields}
    assert names <= settings
    assert len(names) > 10


def test_the_guide_says_what_has_not_been_run() -> None:
    text = " ".join(GUIDE.read_text().split())
    assert "never been built" in text
    for path in DOCKERFILES:
        assert f"docker/{path.name}" in text


def test_wheels_are_those_of_every_supported_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheels = project["tool"]["cibuildwheel"]
    assert wheels["build"] == [f"cp3{minor}-*" for minor in range(10, 15)]
    assert project["project"]["requires-python"] == ">=3.10"
    assert wheels["linux"]["archs"] == ["x86_64", "aarch64"]
    for command in wheels["test-command"]:
        words = command.split()
        assert (words[0] == "rocmforge" and words[1] in COMMANDS) or words[:3] == [
            "python",
            "-m",
            "rocmforge",
        ]
