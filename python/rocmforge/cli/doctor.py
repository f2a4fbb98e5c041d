"""`rocmforge doctor`: what stands between a model and a GPU on this machine."""

from __future__ import annotations

import dataclasses

from rocmforge.cli.command import JsonOption
from rocmforge.cli.failures import one_line
from rocmforge.cli.terminal import write, write_json


def doctor(json_output: JsonOption = False) -> None:
    """Say what a GPU needs here, and what of it is missing.

    Checked are driver, permissions, runtimes and code objects.

    Succeeds whatever it finds: without a GPU, models run on the CPU.
    """
    from rocmforge.model.diagnosis import diagnose

    checks = diagnose()
    if json_output:
        write_json({"checks": [dataclasses.asdict(check) for check in checks]})
        return
    for check in checks:
        write(f"{'ok     ' if check.ok else 'missing'} {check.name}: {one_line(check.detail)}\n")
