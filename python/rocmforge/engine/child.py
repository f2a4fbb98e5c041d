"""One process with an engine in it: how it is started, and how to tell that it hangs."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Final

from rocmforge.engine.messages import Heartbeat, Loaded
from rocmforge.engine.wire import FrameReader

HEARTBEAT_TIMEOUT_S: Final = 4.0
LOAD_TIMEOUT_S: Final = 1800.0
# A step may take this much longer than the longest so far; the first ones map the model in.
STEP_TIMEOUT_S: Final = 60.0
STEP_TIMEOUT_FACTOR: Final = 10.0
_BUFFER_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class EngineChild:
    """A process and what it has said of itself. Times are those of the caller's clock."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    started_at: float
    loaded: asyncio.Future[Loaded]
    heard_at: float
    stepped_at: float  # when num_steps last grew, or nothing was to do
    heartbeat: Heartbeat | None = None
    longest_step_s: float = 0.0
    failure: str = ""  # why it was killed
    frames: FrameReader = field(default_factory=FrameReader)

    def fault(self, now: float) -> str:
        """Why it is to be killed; empty while all is well."""
        if not self.loaded.done():
            limit = LOAD_TIMEOUT_S
            return f"loading took over {limit:g} s" if now - self.started_at > limit else ""
        if now - self.heard_at > HEARTBEAT_TIMEOUT_S:
            return f"it was silent for {HEARTBEAT_TIMEOUT_S:g} s"
        limit = STEP_TIMEOUT_S + STEP_TIMEOUT_FACTOR * self.longest_step_s
        return f"a step took over {limit:.0f} s" if now - self.stepped_at > limit else ""

    def excuse(self, duration: float, now: float) -> None:
        """Does not count a time in which nobody listened."""
        self.heard_at = min(now, self.heard_at + duration)
        self.stepped_at = min(now, self.stepped_at + duration)

    def note(self, beat: Heartbeat, now: float) -> None:
        """Takes note of a heartbeat."""
        before, stats = self.heartbeat, beat.stats
        is_idle = stats.num_running == 0 and stats.num_waiting == 0
        if before is None or is_idle or stats.num_steps != before.stats.num_steps:
            if not is_idle:
                self.longest_step_s = max(self.longest_step_s, now - self.stepped_at)
            self.stepped_at = now
        self.heartbeat = beat


async def spawn(now: float) -> EngineChild:
    """Starts a process, which waits for a Start message."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own program, a fork's time
                [sys.executable, "-m", "rocmforge.engine.process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # nothing is to mix with what a command prints
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONSAFEPATH": "1"},  # nothing from the working directory
            )
        except OSError:
            ours.close()
            raise
    reader, writer = await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)
    loaded = asyncio.get_running_loop().create_future()
    return EngineChild(process, reader, writer, now, loaded, heard_at=now, stepped_at=now)
