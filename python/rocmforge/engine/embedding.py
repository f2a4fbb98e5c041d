"""A text's embedding, from what an engine says of its hidden states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rocmforge.engine.messages import Cancel, Event, Finished, RowsEvent, Submit
from rocmforge.engine.output import check_ended_well
from rocmforge.model.pooling import Pooling

if TYPE_CHECKING:
    from rocmforge.engine.supervisor import EngineSupervisor


class EmbeddingAssembler:
    """One text. `submit` asks for hidden states with pooling; sums are float64."""

    is_stopped = False  # vectors have no stop strings

    def __init__(self, submit: Submit, hidden_size: int, *, normalize: bool) -> None:
        assert submit.output == "hidden"
        assert submit.pooling is not None
        self.submit = submit
        self.finished: Finished | None = None
        self._normalize = normalize
        self._total = np.zeros(hidden_size, np.float64)

    def take(self, event: Event) -> None:
        if isinstance(event, RowsEvent):
            if event.start == 0:  # the first time, or from the beginning again
                self._total[:] = 0.0
            self._total += event.rows.sum(axis=0, dtype=np.float64)
        elif isinstance(event, Finished):
            self.finished = event

    @property
    def cancel(self) -> Cancel:
        return Cancel(self.submit.request_id)

    def output(self) -> npt.NDArray[np.float32]:
        """[hidden_size] of a finished request; raises what it failed with."""
        check_ended_well(self.finished)
        vector = self._total
        if self.submit.pooling == "mean":
            vector = vector / len(self.submit.prompt_token_ids)
        length = float(np.linalg.norm(vector)) if self._normalize else 1.0
        return (vector / (length or 1.0)).astype(np.float32)


async def embed(
    engine: EngineSupervisor,
    token_ids: list[int],
    hidden_size: int,
    pooling: Pooling,
    namespace: str,
    max_wait_s: float | None = None,
) -> npt.NDArray[np.float32]:
    """[hidden_size]: the embedding, scaled to length 1, from an engine in another process.

    Raises what the engine refuses or fails the request with. Cancelling it ends the request.
    """
    submit = Submit(
        engine.new_id(),
        token_ids,
        None,
        output="hidden",
        namespace=namespace,
        max_wait_s=max_wait_s,
        pooling=pooling,
    )
    request = await engine.submit(submit)
    assembler = EmbeddingAssembler(submit, hidden_size, normalize=True)
    try:
        while assembler.finished is None:
            for event in await request.get():
                assembler.take(event)
        return assembler.output()
    finally:
        engine.cancel(assembler.cancel)
