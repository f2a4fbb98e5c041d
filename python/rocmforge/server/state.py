"""What the routes share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from rocmforge.engine.messages import Loaded
from rocmforge.engine.supervisor import EngineSupervisor
from rocmforge.errors import UnavailableError
from rocmforge.model.host import resident_bytes
from rocmforge.server.contexts import ContextStores
from rocmforge.server.errors import RequestError
from rocmforge.server.keys import ApiKeys
from rocmforge.server.metrics import Metrics
from rocmforge.server.settings import ServerSettings
from rocmforge.server.tracing import Tracing
from rocmforge.tokenizer import Tokenizer


class Place:
    """In the engine's queue, for a request that is on its way there."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._is_taken = False

    @classmethod
    def of_request(cls, state: ServerState) -> Place:
        """One for the request that this task answers, and those that it starts."""
        place = cls(state)
        _place.set(place)
        return place

    def take(self) -> None:
        """Raises what check_room() does."""
        self._state.check_room()
        self._state.num_encoding += 1
        self._is_taken = True

    def release(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._state.num_encoding -= 1


_place: ContextVar[Place | None] = ContextVar("rocmforge_place", default=None)


@dataclass(slots=True)
class ServerState:
    settings: ServerSettings
    keys: ApiKeys
    metrics: Metrics
    engine: EngineSupervisor
    tokenizer: Tokenizer
    tracing: Tracing | None = None
    is_draining: bool = False
    num_encoding: int = 0  # requests whose bodies are being parsed, or their prompts made
    held_bytes: int = 0  # of the bodies of requests; see Guard
    started_at: int = field(default_factory=lambda: int(time.time()))
    contexts: ContextStores = field(init=False)

    def __post_init__(self) -> None:
        self.contexts = ContextStores(self.settings.context_dir)

    @property
    def model(self) -> Loaded:
        if self.engine.model is None:
            msg = "no model is loaded yet"
            raise UnavailableError(msg)
        return self.engine.model

    def check_room(self) -> None:
        """Raises what the engine refuses requests with now, and UnavailableError for memory."""
        self.engine.check_room(self.num_encoding)
        limit = self.settings.max_rss_bytes
        if limit is not None and self.resident_bytes > limit:
            msg = "the server has as much memory as it may have; try again later"
            raise UnavailableError(msg)

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """While a prompt is made for the engine, which is to have room for it; see check_room().

        The place of the request that is being answered is given up for this one.
        """
        if (held := _place.get()) is not None:
            held.release()
        place = Place(self)
        place.take()
        try:
            yield
        finally:
            place.release()

    @property
    def resident_bytes(self) -> int:
        """Of this process and, by its latest account, of the engine's."""
        beat = self.engine.heartbeat
        return resident_bytes() + (0 if beat is None else beat.rss_bytes)

    @property
    def model_id(self) -> str:
        """The name of the model's file without its ending."""
        return Path(self.model.name).stem

    def check_model(self, name: str | None) -> None:
        """Raises RequestError for a name other than that of the model that is served."""
        if name is not None and name not in (self.model_id, self.model.name):
            msg = f"there is no model {name[:100]!r}; this server has {self.model_id!r}"
            raise RequestError(msg, status=404, param="model", code="model_not_found")
