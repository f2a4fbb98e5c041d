"""`rocmforge devices`: what a model could run on here."""

from __future__ import annotations

import dataclasses

from rocmforge.cli.command import JsonOption
from rocmforge.cli.failures import one_line
from rocmforge.cli.terminal import write, write_json


def devices(json_output: JsonOption = False) -> None:
    """List the devices of this machine that this build can use."""
    import rocmforge

    found = rocmforge.devices()
    if json_output:
        write_json({"devices": [dataclasses.asdict(device) for device in found]})
        return
    for device in found:
        write(f"{device.name}: {one_line(device.description)}\n")
