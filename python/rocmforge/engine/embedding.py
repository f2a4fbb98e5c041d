"""A text's embedding from an engine in another process, as `LLM.embed` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rocmforge.engine.messages import Cancel, Finished, RowsEvent, Submit
from rocmforge.errors import UnavailableError

if TYPE_CHECKING:
    import numpy.typing as npt

    from rocmforge.engine.supervisor import EngineSupervisor


async def embed(
    engine: EngineSupervisor,
    token_ids: list[int],
    hidden_size: int,
    namespace: str,
    max_wait_s: float | None = None,
) -> npt.NDArray[np.float32]:
    """[hidden_size]: the mean of the final hidden states, scaled to length 1.

    Raises what the engine refuses or fails the request with. Cancelling it ends the request.
    """
    submit = Submit(
        engine.new_id(),
        token_ids,
        None,
        output="hidden",
        namespace=namespace,
        max_wait_s=max_wait_s,
    )
    request = await engine.submit(submit)
    total = np.zeros(hidden_size, np.float64)
    try:
        while True:
            for event in await request.get():
                if isinstance(event, RowsEvent):
                    total += event.rows.sum(axis=0, dtype=np.float64)
                elif isinstance(event, Finished):
                    if event.error is not None:
                        raise event.error
                    if event.reason == "cancelled":
                        msg = "the engine is shutting down"
                        raise UnavailableError(msg)
                    length = float(np.linalg.norm(total))
                    return (total / length if length else total).astype(np.float32)
    finally:
        engine.cancel(Cancel(submit.request_id))
