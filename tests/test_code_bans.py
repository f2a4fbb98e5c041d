"""What the package never does, whatever it is given: run data, unpickle it, render it elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import rocmforge

ROOT = Path(rocmforge.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"

BANNED_MODULES = {
    *("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "yaml"),
    *("xml", "imp", "code", "codeop", "pty", "telnetlib", "urllib.request", "requests"),
    *("starlette.staticfiles", "fastapi.staticfiles", "multipart", "python_multipart"),
}
BANNED_CALLS = {
    *("eval", "exec", "compile", "__import__", "literal_eval", "allow_pickle"),
    *("system", "popen", "spawnv", "mktemp", "StaticFiles", "UploadFile", "Form", "File"),
}
# Where a fix of a dependency closes a hole that a request could reach.
FLOORS = {"jinja2": (3, 1, 6), "h11": (0, 16), "starlette": (1, 0, 1)}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def faults(tree: ast.Module) -> Iterator[str]:
    for name in imports_of(tree):
        if any(name == banned or name.startswith(f"{banned}.") for banned in BANNED_MODULES):
            yield f"imports {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        name = getattr(called, "attr", getattr(called, "id", ""))
        is_method = isinstance(called, ast.Attribute) and name == "compile"  # of something else
        if name in BANNED_CALLS and not is_method:
            yield f"calls {name}"
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if "allow_pickle" in keywords or keywords.get("shell") == "True":
            yield f"calls {name} with {keywords}"


def test_nothing_that_runs_or_unpickles_data_is_used() -> None:
    found = {path: sorted(set(faults(tree))) for path, tree in modules()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from torch import load",
        "eval(x)",
        "ast.literal_eval(x)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "from starlette.staticfiles import StaticFiles",
        "os.system(x)",
        "tempfile.mktemp()",
    ],
)
def test_a_ban_is_noticed(source: str) -> None:
    assert list(faults(ast.parse(source)))


def test_templates_are_known_to_one_package_and_rendered_in_its_sandbox_alone() -> None:
    for path, tree in modules():
        if not path.startswith("tokenizer/"):
            assert not [name for name in imports_of(tree) if name.split(".")[0] == "jinja2"], path
    made = {
        path
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1]
        in ("Environment", "SandboxedEnvironment", "Template", "from_string")
    }
    assert made <= {"tokenizer/chat_template.py", "tokenizer/template_environment.py"}


def test_no_text_of_clients_or_models_is_matched_by_backtracking() -> None:
    """The server's only expression is a fixed one without repetition, over bytes of JSON."""
    compiled = [
        (path, ast.unparse(node.args[0]))
        for path, tree in modules()
        if path.startswith(("server/", "engine/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")
    ]
    # The other one reads the application's own routes.
    assert {path for path, _ in compiled} <= {"server/json_body.py", "server/openapi.py"}
    bodies = [pattern for path, pattern in compiled if path == "server/json_body.py"]
    assert all(not re.search(r"[*+{]", pattern) for pattern in bodies)


def test_dependencies_have_the_versions_that_close_known_holes() -> None:
    text = PROJECT.read_text()
    for name, floor in FLOORS.items():
        found = re.search(rf'"{name}>=([0-9.]+)"', text)
        assert found, name
        assert tuple(map(int, found.group(1).split("."))) >= floor
