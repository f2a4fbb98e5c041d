"""A request's choices, running: submitted together, read together, ended together."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from rocmforge.engine.messages import Cancel, Finished, Submit
from rocmforge.engine.output import TextAssembler, TextDelta
from rocmforge.engine.remote_request import RemoteRequest
from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import UnavailableError
from rocmforge.server.state import ServerState


@dataclass(slots=True)
class Choice:
    """One continuation of one prompt."""

    index: int
    assembler: TextAssembler
    request: RemoteRequest
    num_tokens: int = 0
    last_token_at: float = 0.0

    @property
    def num_cached_tokens(self) -> int:
        """Known once it has ended."""
        finished = self.assembler.finished
        return 0 if finished is None else finished.num_cached_tokens


class Generation:
    """n choices for each prompt, in that order; close() is called by deltas() at its end."""

    def __init__(self, state: ServerState, num_per_prompt: int) -> None:
        self._state = state
        self._n = num_per_prompt
        self._started_at = time.monotonic()
        self.choices: list[Choice] = []

    @classmethod
    async def start(
        cls,
        state: ServerState,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        n: int,
        namespace: str,
        shown_ids: frozenset[int] = frozenset(),
    ) -> Generation:
        """Submits all choices or none.

        With a seed, choice i of a prompt has seed + i. `shown_ids` are control tokens whose
        spelling is to be part of the text. Raises what the engine refuses one with.
        """
        generation = cls(state, n)
        try:
            for prompt in prompts:
                for i in range(n):
                    await generation._add(prompt, _reseeded(params, i), namespace, shown_ids)
        except BaseException:
            generation.close()
            raise
        return generation

    async def _add(
        self, prompt: list[int], params: SamplingParams, namespace: str, shown_ids: frozenset[int]
    ) -> None:
        state = self._state
        submit = Submit(
            request_id=state.engine.new_id(),
            prompt_token_ids=prompt,
            params=params,
            seed=int.from_bytes(os.urandom(8), "little"),
            namespace=namespace,
            stop_token_ids=frozenset(state.tokenizer.eog_ids),
            # The others wait for the first, and not for longer than the request may take.
            max_wait_s=None if self.choices else state.settings.queue_timeout_s,
        )
        assembler = TextAssembler(submit, params, state.tokenizer, shown_ids)
        request = await state.engine.submit(submit)
        self.choices.append(Choice(len(self.choices), assembler, request))

    async def deltas(self) -> AsyncGenerator[tuple[Choice, TextDelta], None]:
        """What comes, as it comes; raises what a choice fails with. Ends all when it is closed."""
        limit = self._state.settings.request_timeout_s
        timer = asyncio.get_running_loop().call_later(limit, self._expire, limit)
        one = len(self.choices) == 1
        try:
            async with aclosing(self._read(self.choices[0]) if one else self._read_all()) as items:
                async for item in items:
                    yield item
        finally:
            timer.cancel()
            self.close()

    def _expire(self, limit: float) -> None:
        error = UnavailableError(f"the request took over {limit:g} s")
        self.close()
        for choice in self.choices:
            if not choice.request.is_over:
                request_id = choice.request.submit.request_id
                choice.request.put(Finished(request_id, "error", error, 0, 0, 0))

    async def _read(self, choice: Choice) -> AsyncGenerator[tuple[Choice, TextDelta], None]:
        assembler = choice.assembler
        is_told = False
        while assembler.finished is None:
            delta = assembler.add(await choice.request.get())
            if assembler.is_stopped and not is_told and assembler.finished is None:
                self._state.engine.cancel(assembler.cancel)
                is_told = True
            if delta is None:
                continue
            self._observe(choice, delta)
            if assembler.error is not None:
                raise assembler.error
            if delta.finish_reason == "cancelled":
                msg = "the server is shutting down"
                raise UnavailableError(msg)
            yield choice, delta

    async def _read_all(self) -> AsyncGenerator[tuple[Choice, TextDelta], None]:
        queue: asyncio.Queue[tuple[Choice, TextDelta] | Exception | None] = asyncio.Queue(64)

        async def pump(choice: Choice) -> None:
            try:
                async for item in self._read(choice):
                    await queue.put(item)
                await queue.put(None)
            except Exception as error:  # noqa: BLE001 - raised by the one who reads the queue
                await queue.put(error)

        tasks = [asyncio.create_task(pump(choice)) for choice in self.choices]
        num_open = len(tasks)
        try:
            while num_open:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    num_open -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()

    def _observe(self, choice: Choice, delta: TextDelta) -> None:
        now, metrics = time.monotonic(), self._state.metrics
        for i in range(len(delta.token_ids)):
            if choice.num_tokens == 0 and i == 0:
                metrics.ttft.observe(now - self._started_at)
            else:
                metrics.itl.observe((now - choice.last_token_at) if i == 0 else 0.0)
        if delta.token_ids:
            choice.num_tokens += len(delta.token_ids)
            choice.last_token_at = now

    def usage(self) -> dict[str, Any]:
        """As OpenAI counts: a prompt once, whatever n."""
        firsts = self.choices[:: self._n]
        num_prompt = sum(len(choice.assembler.prompt_token_ids) for choice in firsts)
        num_output = sum(choice.num_tokens for choice in self.choices)
        return {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_output,
            "total_tokens": num_prompt + num_output,
            "prompt_tokens_details": {
                "cached_tokens": sum(choice.num_cached_tokens for choice in firsts)
            },
        }

    def timing(self) -> dict[str, float]:
        """Seconds of a generation that has ended: to the first step, the first token, the end."""
        ends = [c.assembler.finished for c in self.choices if c.assembler.finished is not None]
        return {
            "queue_s": min(end.queue_s for end in ends),
            "prefill_s": ends[0].prefill_s,
            "decode_s": max(end.decode_s for end in ends),
        }

    def close(self) -> None:
        """Ends what still runs."""
        for choice in self.choices:
            self._state.engine.cancel(Cancel(choice.request.submit.request_id))


def _reseeded(params: SamplingParams, i: int) -> SamplingParams:
    if params.seed is None or i == 0:
        return params
    return replace(params, seed=(params.seed + i) % 2**64)
