"""The documents of each key; work on them is done off the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rocmforge.errors import CapacityError
from rocmforge.server.errors import RequestError

if TYPE_CHECKING:
    from rocmforge.context import ContextStore

Result = TypeVar("Result")


class ContextStores:
    """A file in `folder` for each owner; without a folder there are none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._stores: dict[str, ContextStore] = {}
        self._lock = threading.Lock()

    async def run(self, owner: str, work: Callable[[ContextStore], Result]) -> Result:
        """The result of `work` on the owner's, on another thread; it is not cancelled on its way.

        Raises what `work` does, a quota as RequestError; status 501 if there are no stores.
        """
        folder = self._folder
        if folder is None:
            msg = "this server keeps no documents; its --context-dir names a folder for them"
            raise RequestError(msg, status=501, code="unsupported")
        try:
            return await asyncio.to_thread(lambda: work(self._of(folder, owner)))
        except CapacityError as error:
            # Not 429, after which clients come again by themselves.
            raise RequestError(str(error), status=403, code="quota_exceeded") from None

    def _of(self, folder: Path, owner: str) -> ContextStore:
        from rocmforge.context import ContextStore
        from rocmforge.context.places import file_of

        with self._lock:
            if owner not in self._stores:
                self._stores[owner] = ContextStore(file_of(folder, owner))
            return self._stores[owner]
