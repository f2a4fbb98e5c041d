"""The architectures this build runs, by name.

An entry in one of the three tables is all that a further architecture needs whose mechanisms are
among those of architecture.py.
"""

from __future__ import annotations

import reprlib

from rocmforge.errors import UnsupportedError
from rocmforge.model.architecture import Architecture
from rocmforge.model.dense_architectures import DENSE
from rocmforge.model.encoder_architectures import ENCODERS
from rocmforge.model.expert_architectures import EXPERTS

ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture for architecture in (*DENSE, *EXPERTS, *ENCODERS)
}


def find_architecture(name: str) -> Architecture:
    architecture = ARCHITECTURES.get(name)
    if architecture is None:
        msg = (
            f"architecture {reprlib.repr(name)} is not supported; "
            f"these are: {', '.join(ARCHITECTURES)}"
        )
        raise UnsupportedError(msg)
    return architecture
