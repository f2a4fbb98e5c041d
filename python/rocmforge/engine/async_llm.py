"""AsyncLLM: the LLM for asyncio. Cancelling the task that waits cancels its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar, final

import numpy as np
import numpy.typing as npt

from rocmforge.engine.arguments import Messages, Prompt
from rocmforge.engine.base_llm import BaseLLM
from rocmforge.engine.embedding import EmbeddingAssembler
from rocmforge.engine.gathering import Gathering
from rocmforge.engine.loop_channel import LoopBridge, LoopChannel
from rocmforge.engine.output import RequestOutput, RowsAssembler, TextAssembler, TextDelta
from rocmforge.engine.sampling import SamplingParams
from rocmforge.model.pooling import Pooling

Assembler = TypeVar("Assembler", TextAssembler, RowsAssembler, EmbeddingAssembler)


@final
class AsyncLLM(BaseLLM):
    """A model for asyncio; see `BaseLLM` for the arguments.

    Loading blocks: an application whose loop is running loads in a thread, with
    `await asyncio.to_thread(AsyncLLM, path)`. Texts are encoded in threads as well.
    """

    async def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """As `LLM.generate`."""
        generations = await asyncio.to_thread(self._generations, prompts, params)
        await self._run(generations)
        return [generation.output() for generation in generations]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> AsyncTextStream:
        """As `LLM.stream`, but the request is submitted when its first delta is awaited."""
        return AsyncTextStream(self, prompt, params)

    async def chat(
        self,
        messages: Messages | Sequence[Messages],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        tools: Any = None,
    ) -> list[RequestOutput]:
        """As `LLM.chat`."""
        prompts = await asyncio.to_thread(self._chat_prompts, messages, tools)
        return await self.generate(prompts, params)

    def stream_chat(
        self, messages: Messages, params: SamplingParams | None = None, tools: Any = None
    ) -> AsyncTextStream:
        """chat() of one conversation, as stream()."""
        return self.stream(self._session.encode_chat(messages, tools), params)

    async def logits(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """As `LLM.logits`."""
        request = self._session.logits(token_ids)
        await self._run([request])
        return request.output()

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalize: bool = False,
    ) -> npt.NDArray[np.float32]:
        """As `LLM.embed`."""
        session = self._session
        requests = await asyncio.to_thread(session.embeddings, texts, pooling, normalize=normalize)
        await self._run(requests)
        return session.vectors(requests)

    async def close(self) -> None:
        """As `LLM.close`."""
        await asyncio.to_thread(self._session.host.close)

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, assemblers: list[Assembler]) -> None:
        gathering = Gathering(self._session.host, assemblers)
        channel = self._channel()
        try:
            while not gathering.done:
                gathering.submit(channel)
                gathering.add(await channel.get())
        finally:
            gathering.cancel()

    def _channel(self) -> LoopChannel:
        """A channel into the running loop."""
        loop = asyncio.get_running_loop()
        bridges = self._bridges
        if loop not in bridges:
            for other in [other for other in bridges if other.is_closed()]:
                bridges.pop(other, None)
            bridges[loop] = LoopBridge(self._session.host, loop)
        return LoopChannel(bridges[loop])

    @cached_property
    def _bridges(self) -> dict[asyncio.AbstractEventLoop, LoopBridge]:
        return {}


class AsyncTextStream:
    """The deltas of one request, for `async for`; see TextStream.

    The request ends with aclose(), with the task that waits for a delta, or with the object.
    """

    def __init__(self, llm: AsyncLLM, prompt: Prompt, params: SamplingParams | None) -> None:
        self._llm = llm
        self._prompt = prompt
        self._params = params or SamplingParams()
        self._generation: TextAssembler | None = None
        self._is_over = False

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> TextDelta:
        session = self._llm._session
        if self._generation is None:
            generation = await asyncio.to_thread(session.generation, self._prompt, self._params)
            self._channel = self._llm._channel()
            session.host.submit(generation.submit, self._channel)
            self._generation = generation  # nothing is awaited between this and submit()
        while not self._is_over:
            try:
                events = await self._channel.get()
            except asyncio.CancelledError:
                self._end()
                raise
            delta = self._generation.add(events)
            if delta is None:
                continue
            if delta.finish_reason is not None:
                self._end()
            if self._generation.error is not None:
                raise self._generation.error
            return delta
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the request if it still runs; nothing more comes."""
        self._end()

    def _end(self) -> None:
        if self._generation is not None and not self._is_over:
            self._llm._session.host.cancel(self._generation.cancel)
        self._is_over = True

    def __del__(self) -> None:
        self._end()
