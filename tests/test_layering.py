"""Imports point downwards only. The list is the architecture, top to bottom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rocmforge

# Packages of one row do not know each other.
LAYERS = (
    {"cli", "server"},
    {"engine"},
    {"model", "tokenizer"},
    {"gguf", "hub", "context"},
    {"_native"},
    {"errors"},
)
ROOT = Path(rocmforge.__file__).parent
CYTHON_IMPORT = re.compile(
    r"^\s*(?:from|import)\s+(rocmforge[\w.]*)(?:\s+c?import\s+(\w+))?", re.MULTILINE
)


def imported_by_python(source: str) -> set[str]:
    """Imports inside functions and under TYPE_CHECKING count as well."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "rocmforge." if node.level else ""
            modules.update(f"{prefix}{node.module}.{alias.name}" for alias in node.names)
    return modules


def imported_by_cython(source: str) -> set[str]:
    return {".".join(filter(None, match)) for match in CYTHON_IMPORT.findall(source)}


def violations(package: str, modules: set[str]) -> set[str]:
    """What a module of `package` must not import: anything above or beside it.

    The public names of `rocmforge` itself stand above all but the top row.
    """
    own = next(i for i, row in enumerate(LAYERS) if package in row)
    allowed = set().union({package}, *LAYERS[own + 1 :])
    others = set().union(*LAYERS) - allowed
    wrong = set()
    for module in modules:
        top, _, rest = module.partition(".")
        name = rest.partition(".")[0]
        is_public_name = name not in allowed | others
        if top == "rocmforge" and (name in others or (is_public_name and own > 0)):
            wrong.add(module)
    return wrong


def modules_of_packages() -> list[Path]:
    names = set().union(*LAYERS)
    return [
        path
        for pattern in ("*.py", "*.pyx", "*.pyi")
        for path in sorted(ROOT.rglob(pattern))
        if path.relative_to(ROOT).with_suffix("").parts[0] in names
    ]


@pytest.mark.parametrize("path", modules_of_packages(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    package = path.relative_to(ROOT).with_suffix("").parts[0]
    read = imported_by_cython if path.suffix == ".pyx" else imported_by_python
    assert not violations(package, read(path.read_text()))


def test_every_package_has_a_layer() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set().union(*LAYERS)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("engine", "from rocmforge.cli.app import main"),
        ("engine", "from rocmforge import LLM"),
        ("engine", "def f():\n    import rocmforge.server"),
        ("model", "from rocmforge.engine import devices"),
        ("model", "from rocmforge import tokenizer"),
        ("tokenizer", "from rocmforge.model.config import ModelConfig"),
        ("gguf", "from rocmforge._native import cpu\nfrom rocmforge.model import loader"),
        ("errors", "import rocmforge.gguf"),
        ("cli", "from rocmforge.server import app"),
    ],
)
def test_an_import_upwards_or_sideways_is_found(package: str, source: str) -> None:
    assert len(violations(package, imported_by_python(source))) == 1
    assert len(violations(package, imported_by_cython(source))) == 1


def test_imports_downwards_are_let_through() -> None:
    source = "from rocmforge.gguf import GGUFFile\nfrom rocmforge.errors import RocmForgeError\n"
    assert not violations("model", imported_by_python(source))
    assert not violations("cli", imported_by_python("import rocmforge\nfrom rocmforge import LLM"))
