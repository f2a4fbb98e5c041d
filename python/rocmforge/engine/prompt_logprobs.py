"""Log-probabilities of the tokens of a prompt, from an engine in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocmforge.engine.messages import Cancel, Finished, LogprobsEvent, Submit
from rocmforge.errors import UnavailableError

if TYPE_CHECKING:
    from rocmforge.engine.supervisor import EngineSupervisor


async def prompt_logprobs(
    engine: EngineSupervisor,
    token_ids: list[int],
    num_top: int,
    namespace: str,
    max_wait_s: float | None = None,
) -> list[dict[int, float] | None]:
    """One entry a token: of it and of the `num_top` likeliest, given all before; None for the first.

    Raises what the engine refuses or fails the request with. Cancelling it ends the request.
    """
    submit = Submit(
        engine.new_id(),
        token_ids,
        None,
        output="logprobs",
        namespace=namespace,
        max_wait_s=max_wait_s,
        num_logprobs=num_top,
    )
    request = await engine.submit(submit)
    found: list[dict[int, float] | None] = [None] * len(token_ids)
    try:
        while True:
            for event in await request.get():
                if isinstance(event, LogprobsEvent):  # again after a preemption
                    found[event.start : event.start + len(event.logprobs)] = event.logprobs
                elif isinstance(event, Finished):
                    if event.error is not None:
                        raise event.error
                    if event.reason == "cancelled":
                        msg = "the engine is shutting down"
                        raise UnavailableError(msg)
                    return found
    finally:
        engine.cancel(Cancel(submit.request_id))
