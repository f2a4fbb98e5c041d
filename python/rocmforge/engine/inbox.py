"""What other threads hand to the engine's, and the bound on how much of it."""

from __future__ import annotations

import threading

from rocmforge.engine.messages import Cancel
from rocmforge.engine.request import Request
from rocmforge.errors import CapacityError, InvalidArgumentError, UnavailableError


class Inbox:
    """Requests from submission to their end, and the messages not yet taken by the engine.

    At most `max_queue` requests have not had their first step; one that was preempted has had it.
    All methods may be called from any thread, take(), admitted() and ended() by the engine's only.
    """

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._changed = threading.Condition()  # guards the four below
        self._messages: list[Request | Cancel] = []
        self._live: dict[int, Request] = {}
        self._num_queued = 0
        self._error: Exception | None = None

    def submit(self, request: Request) -> None:
        """Raises CapacityError, UnavailableError, or InvalidArgumentError for an id in use."""
        with self._changed:
            if self._error is not None:
                msg = f"the engine takes no requests: {self._error}"
                raise UnavailableError(msg)
            if request.request_id in self._live:
                msg = f"request id {request.request_id} is in use"
                raise InvalidArgumentError(msg)
            if self._num_queued >= self._max_queue:
                msg = f"all {self._max_queue} places in the queue are taken; try again later"
                raise CapacityError(msg)
            self._num_queued += 1
            self._live[request.request_id] = request
            self._messages.append(request)
            self._changed.notify()

    def cancel(self, cancel: Cancel) -> None:
        with self._changed:
            if cancel.request_id in self._live:
                self._messages.append(cancel)
                self._changed.notify()

    def stop(self, error: Exception) -> None:
        """Refuses requests from now on; the first `error` is the one that counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify()

    @property
    def error(self) -> Exception | None:
        """Why nothing is accepted any more; None while it is."""
        return self._error

    @property
    def num_live(self) -> int:
        return len(self._live)

    @property
    def num_queued(self) -> int:
        """Live requests that have not had their first step."""
        return self._num_queued

    @property
    def has_messages(self) -> bool:
        return bool(self._messages)

    def get(self, request_id: int) -> Request | None:
        """None for a request that is unknown or has ended."""
        return self._live.get(request_id)

    def wait(self) -> None:
        """Sleeps until there is a message, or nothing more is accepted."""
        with self._changed:
            while self._error is None and not self._messages:
                self._changed.wait()

    def take(self) -> list[Request | Cancel]:
        """All messages, oldest first."""
        if not self._messages:
            return []
        with self._changed:
            messages, self._messages = self._messages, []
        return messages

    def admitted(self, num_requests: int) -> None:
        """So many have had their first step."""
        with self._changed:
            self._num_queued -= num_requests

    def ended(self, request: Request) -> None:
        with self._changed:
            del self._live[request.request_id]
            if not request.was_admitted:
                self._num_queued -= 1
