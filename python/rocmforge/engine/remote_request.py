"""One request to an engine in another process, as the event loop that sent it sees it."""

from __future__ import annotations

import asyncio

from rocmforge.engine.messages import Event, Finished, Submit


class RemoteRequest:
    """A request that has been accepted; get() gives its events, those of a step together."""

    def __init__(self, submit: Submit) -> None:
        self.submit = submit
        self.is_over = False
        self._events: list[Event] = []
        self._accepted = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def num_pending(self) -> int:
        """Events that nobody has taken yet."""
        return len(self._events)

    async def get(self) -> list[Event]:
        """Waits for events, and for nothing once the Finished event was among them."""
        while not self._events:
            await self._changed()
        events, self._events = self._events, []
        return events

    async def accepted(self) -> None:
        """Raises what the engine refuses the request with."""
        while not self._accepted:
            await self._changed()
        if self._events and isinstance(first := self._events[0], Finished) and first.error:
            raise first.error

    def put(self, event: Event) -> None:
        self._events.append(event)
        self.is_over = isinstance(event, Finished)
        self.wake()

    def wake(self) -> None:
        self._accepted = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _changed(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
