from __future__ import annotations

from typing import Any


def test_the_cpu_is_listed_with_its_kernels(run: Any) -> None:
    found = run("devices", "--json").json["devices"]
    assert found[0]["name"] == "cpu"
    assert found[0]["available"] is True
    assert found[0]["isa"]
    assert run("devices").out.startswith("cpu: ")
