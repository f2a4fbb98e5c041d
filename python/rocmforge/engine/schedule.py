"""What one step runs: chunks of requests, and the rows of logits they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field

from rocmforge.engine.request import Request


@dataclass(slots=True)
class ScheduledChunk:
    """`num_tokens` tokens of `request`, from position `start` onwards."""

    request: Request
    start: int
    num_tokens: int
    first_row: int  # of its logit rows in the step
    num_rows: int  # 1 if it draws a token, all tokens if it wants a row of each, else 0
    source_row: int  # row of the previous step that draws its last token; -1 if all are known


@dataclass(slots=True)
class Schedule:
    """What one step runs."""

    chunks: list[ScheduledChunk] = field(default_factory=list)
    num_tokens: int = 0
    num_rows: int = 0
    num_draws: int = 0  # rows a token is drawn from
    started: list[Request] = field(default_factory=list)  # admitted for the first time
    needs_host: bool = False  # to be collected before the next step is scheduled

    def append(self, request: Request, num_tokens: int) -> None:
        """Adds the request's next `num_tokens` tokens to the step and marks them scheduled."""
        start = request.num_scheduled_tokens
        end = start + num_tokens
        source_row = request.last_row if request.num_unknown_tokens else -1
        if request.sampler is None:
            num_rows = num_tokens
            self.needs_host = True
        elif end == len(request.token_ids) + request.num_unknown_tokens:
            num_rows = 1
            self.num_draws += 1
            request.num_unknown_tokens += 1
            request.last_row = self.num_rows
            if request.sampler.needs_host:  # its next draw depends on the id of this one
                self.needs_host = True
        else:
            num_rows = 0
        self.chunks.append(
            ScheduledChunk(request, start, num_tokens, self.num_rows, num_rows, source_row)
        )
        self.num_tokens += num_tokens
        self.num_rows += num_rows
        request.num_scheduled_tokens = end
        request.num_in_flight_steps += 1
