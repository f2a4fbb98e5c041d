from __future__ import annotations

from typing import Any


def test_every_check_says_whether_it_is_in_order_and_what_it_found(run: Any) -> None:
    ran = run("doctor", "--json")
    assert ran.exit_code == 0
    checks = {check["name"]: check for check in ran.json["checks"]}
    assert {"kernel driver", "hip runtime", "cuda runtime", "code objects"} <= set(checks)
    assert all(check["detail"] for check in checks.values())
    lines = run("doctor").out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "ok" if check["ok"] else "missing" for check in checks.values()
    ]
