"""The oracle shares no code with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODULES = sorted(Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_reference_module_does_not_import_the_product(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert not any(name.split(".")[0] == "rocmforge" for name in imported)
