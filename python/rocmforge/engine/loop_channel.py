"""Brings events from the engine's thread into an asyncio event loop.

Waking a loop costs several microseconds and a system call, so it is done once for all that a
step has to say to the loop, however many requests it waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rocmforge.engine.host import EngineHost
from rocmforge.engine.messages import Cancel, Event


class LoopBridge:
    """One per engine and event loop."""

    def __init__(self, host: EngineHost, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._loop = loop
        self._posted: deque[tuple[asyncio.Queue[list[Event]], list[Event]]] = deque()
        self._is_waking = False

    def post(self, queue: asyncio.Queue[list[Event]], events: list[Event]) -> None:
        """Called on the engine's thread."""
        # First the events, then the flag; _drain() takes them the other way round. So events that
        # come while it runs are either seen by it or wake the loop again.
        self._posted.append((queue, events))
        if not self._is_waking:
            self._is_waking = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # the loop is closed: nobody waits for these requests any more
                self._is_waking = False
                self._posted.clear()
                for event in events:
                    self._host.cancel(Cancel(event.request_id))

    def _drain(self) -> None:
        self._is_waking = False
        while self._posted:
            queue, events = self._posted.popleft()
            queue.put_nowait(events)


class LoopChannel:
    """Events for one waiting task, over the bridge of its loop."""

    def __init__(self, bridge: LoopBridge) -> None:
        self._bridge = bridge
        self._queue: asyncio.Queue[list[Event]] = asyncio.Queue()

    def put(self, events: list[Event]) -> None:
        self._bridge.post(self._queue, events)

    async def get(self) -> list[Event]:
        return await self._queue.get()
