"""What a process that serves others gives up when it starts."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from typing import Final

_logger = logging.getLogger(__name__)

# Of linux/prctl.h.
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def give_up_rights() -> None:
    """No new privileges by any program, no files for others, no memory in a core file or to a
    debugger of the same user: prompts are in it.

    A program that is started has to do the last by itself, the others are handed down.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
            why = os.strerror(ctypes.get_errno())
            _logger.warning("prctl %d is refused, and rights stay as they are: %s", option, why)
