"""Rights that a server's processes give up."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes, os, resource
from rocmforge.engine.rights import give_up_rights
give_up_rights()
get_dumpable, get_no_new_privileges = 3, 39
print(ctypes.CDLL(None).prctl(get_dumpable, 0, 0, 0, 0))
print(ctypes.CDLL(None).prctl(get_no_new_privileges, 0, 0, 0, 0))
print(resource.getrlimit(resource.RLIMIT_CORE))
print(oct(os.umask(0)))
"""


def test_memory_is_nobody_elses_and_privileges_stay_as_they_are() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["0", "1", "(0, 0)", "0o77"]
    assert ran.stderr == ""
