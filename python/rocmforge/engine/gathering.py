"""Runs a list of requests to their ends, no more at once than the engine's queue takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from rocmforge.engine.embedding import EmbeddingAssembler
from rocmforge.engine.host import Channel, EngineHost
from rocmforge.engine.messages import Event, Finished
from rocmforge.engine.output import RowsAssembler, TextAssembler
from rocmforge.errors import CapacityError

Assembler = TypeVar("Assembler", TextAssembler, RowsAssembler, EmbeddingAssembler)


class Gathering(Generic[Assembler]):
    """Whoever drives it: submit(), wait for events of the channel, add() them, until `done`.

    It is to be cancelled if it is left before that.
    """

    def __init__(self, host: EngineHost, assemblers: Sequence[Assembler]) -> None:
        self._host = host
        self._waiting: deque[Assembler] = deque(assemblers)
        self._active: dict[int, Assembler] = {}

    @property
    def done(self) -> bool:
        return not (self._waiting or self._active)

    def submit(self, channel: Channel) -> None:
        """Submits as many as there is room for.

        Raises what a submission does; CapacityError only if others fill the queue, since one's
        own requests make room as they run.
        """
        while self._waiting:
            submit = self._waiting[0].submit
            try:
                self._host.submit(submit, channel)
            except CapacityError:
                if self._active:
                    return
                raise
            self._active[submit.request_id] = self._waiting.popleft()

    def add(self, events: list[Event]) -> None:
        for event in events:
            assembler = self._active[event.request_id]
            assembler.take(event)
            if isinstance(event, Finished):
                del self._active[event.request_id]
            elif assembler.is_stopped:
                self._host.cancel(assembler.cancel)

    def cancel(self) -> None:
        """Ends what still runs."""
        for assembler in self._active.values():
            self._host.cancel(assembler.cancel)
