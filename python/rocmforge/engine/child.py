"""One process with an engine in it: how it is started, and how to tell that it hangs."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rocmforge.engine.messages import Heartbeat, Loaded
from rocmforge.engine.wire import FrameReader

HEARTBEAT_TIMEOUT_S: Final = 4.0
LOAD_TIMEOUT_S: Final = 1800.0
# How long an engine with work to do may do none of it. What is counted are the pieces that threads
# take of a stage's loops, so a step may last as long as it has to. The largest piece, 256 rows of
# 28,672 weights (the widest matrix of a 70B model) for 512 tokens, is 3.8e9 multiplications: 0.1 s
# of an AVX2 core. At the scalar level, 0.3e9 to 1e9 a second, a piece has 1.3e8 of them: 0.4 s.
# Weights that are still in the file, there and of the embedding, are at most 7 MB a piece. With
# half a second between heartbeats and a quarter between looks at them, a hang is noticed in 5 s.
STALL_TIMEOUT_S: Final = 4.0
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
    moved_at: float  # when it last told of work that was done, or of nothing to do
    heartbeat: Heartbeat | None = None
    failure: str = ""  # why it was killed
    frames: FrameReader = field(default_factory=FrameReader)

    def fault(self, now: float) -> str:
        """Why it is to be killed; empty while all is well."""
        if not self.loaded.done():
            limit = LOAD_TIMEOUT_S
            return f"loading took over {limit:g} s" if now - self.started_at > limit else ""
        if now - self.heard_at > HEARTBEAT_TIMEOUT_S:
            return f"it was silent for {HEARTBEAT_TIMEOUT_S:g} s"
        if now - self.moved_at > STALL_TIMEOUT_S:
            return f"it has work and did none of it for {STALL_TIMEOUT_S:g} s"
        return ""

    def excuse(self, duration: float, now: float) -> None:
        """Does not count a time in which nobody listened."""
        self.heard_at = min(now, self.heard_at + duration)
        self.moved_at = min(now, self.moved_at + duration)

    def note(self, beat: Heartbeat, now: float) -> None:
        """Takes note of a heartbeat."""
        before, stats = self.heartbeat, beat.stats
        is_idle = stats.num_running == 0 and stats.num_waiting == 0
        if (
            before is None
            or is_idle
            or (stats.num_steps, beat.progress) != (before.stats.num_steps, before.progress)
        ):
            self.moved_at = now
        self.heartbeat = beat


async def spawn(
    now: float, program: Sequence[str] = ("-m", "rocmforge.engine.process")
) -> EngineChild:
    """Starts a process, which waits for a Start message. `program` is Python's, and gets a file
    descriptor as its argument."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own program, a fork's time
                [sys.executable, *program, str(theirs.fileno())],
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
    return EngineChild(process, reader, writer, now, loaded, heard_at=now, moved_at=now)
