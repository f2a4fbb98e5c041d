"""Whether this is the process that loaded a model. A fork has its memory, but none of its threads."""

from __future__ import annotations

import os
from typing import final

from rocmforge.errors import UnavailableError


@final
class OwnProcess:
    """The process it was made in. Asking a fork's copy of an engine for anything waits for ever."""

    def __init__(self) -> None:
        self._id = os.getpid()

    @property
    def is_here(self) -> bool:
        return os.getpid() == self._id

    def check(self) -> None:
        """Raises UnavailableError in a fork."""
        if not self.is_here:
            msg = (
                f"the model was loaded in process {self._id}, and a fork has none of its threads; "
                f"load it in this process, {os.getpid()}, or start processes with 'spawn'"
            )
            raise UnavailableError(msg)
