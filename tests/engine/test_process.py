"""The process of an engine: how long it lives."""

from __future__ import annotations

import socket
import subprocess
import sys

# As main() does, with a load that takes for ever.
LOADING = """
import socket, sys, time
from rocmforge.engine.process import _end_with_parent
connection = socket.socket(fileno=int(sys.argv[1]))
_end_with_parent(connection)
connection.sendall(b"x")
time.sleep(600)
"""


def test_an_engine_that_loads_ends_with_the_process_it_belongs_to() -> None:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-c", LOADING, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        ) as process,
    ):
        try:
            theirs.close()
            assert ours.recv(1) == b"x"
            ours.sendall(b"not read by anybody")
            assert process.poll() is None
            ours.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
