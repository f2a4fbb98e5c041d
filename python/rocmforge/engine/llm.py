"""LLM: a model for scripts. Every method may be called from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar, final

import numpy as np
import numpy.typing as npt

from rocmforge.engine.arguments import Messages, Prompt
from rocmforge.engine.base_llm import BaseLLM
from rocmforge.engine.embedding import EmbeddingAssembler
from rocmforge.engine.gathering import Gathering
from rocmforge.engine.host import EngineHost
from rocmforge.engine.messages import Event
from rocmforge.engine.output import RequestOutput, RowsAssembler, TextAssembler, TextDelta
from rocmforge.engine.sampling import SamplingParams
from rocmforge.model.pooling import Pooling

Assembler = TypeVar("Assembler", TextAssembler, RowsAssembler, EmbeddingAssembler)


@final
class LLM(BaseLLM):
    """A model for scripts; see `BaseLLM` for the arguments. Also a context manager."""

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Generates for one prompt or several together; a prompt is a text or its token ids.

        A request that fails on the way has its error in its output. What can be refused before
        anything runs is raised: InvalidArgumentError for a prompt that does not fit, CapacityError
        if other threads fill the queue, UnavailableError if the engine has failed or is closed.
        """
        generations = self._generations(prompts, params)
        _run(self._session.host, generations)
        return [generation.output() for generation in generations]

    def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> TextStream:
        """Submits a request and returns its text as it comes; raises what generate() does."""
        generation = self._session.generation(prompt, params or SamplingParams())
        return TextStream(self._session.host, generation)

    def chat(
        self,
        messages: Messages | Sequence[Messages],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        tools: Any = None,
    ) -> list[RequestOutput]:
        """The next turn of one conversation or several, written with the file's chat template.

        A conversation is a list of {"role": ..., "content": ...}. Raises UnsupportedError for a
        file without a template, and what generate() does.
        """
        return self.generate(self._chat_prompts(messages, tools), params)

    def stream_chat(
        self, messages: Messages, params: SamplingParams | None = None, tools: Any = None
    ) -> TextStream:
        """chat() of one conversation, as stream()."""
        return self.stream(self._session.encode_chat(messages, tools), params)

    def logits(self, token_ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """[len(token_ids), vocab]: row i predicts the token after token_ids[: i + 1]."""
        request = self._session.logits(token_ids)
        _run(self._session.host, [request])
        return request.output()

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        pooling: Pooling | None = None,
        normalize: bool = False,
    ) -> npt.NDArray[np.float32]:
        """[n, hidden]: a vector for each text, of length 1 with `normalize`.

        It is made of the final hidden states of the text's tokens: their mean, that of the first
        token ("cls") or of the last, as `pooling` says, or the model's file, or else the mean.
        Raises InvalidArgumentError for a text that is longer than max_model_len.
        """
        requests = self._session.embeddings(texts, pooling, normalize=normalize)
        _run(self._session.host, requests)
        return self._session.vectors(requests)

    def close(self) -> None:
        """Ends what is running as cancelled and stops the engine. May be called again."""
        self._session.host.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@final
class TextStream:
    """Iterates over the deltas of one request; close() cancels what is left of it.

    The last delta has a finish_reason; a request that fails raises its error instead.
    """

    def __init__(self, host: EngineHost, generation: TextAssembler) -> None:
        self.prompt_token_ids = generation.prompt_token_ids
        self._host = host
        self._generation = generation
        self._events: SimpleQueue[list[Event]] = SimpleQueue()
        self._is_over = True
        host.submit(generation.submit, self._events)
        self._is_over = False

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> TextDelta:
        while not self._is_over:
            self._host.check_process()
            delta = self._generation.add(self._events.get())
            if delta is None:
                continue
            if delta.finish_reason is not None:
                self.close()
            if self._generation.error is not None:
                raise self._generation.error
            return delta
        raise StopIteration

    def close(self) -> None:
        """Ends the request if it still runs; nothing more comes."""
        if not self._is_over:
            self._is_over = True
            self._host.cancel(self._generation.cancel)

    def __enter__(self) -> TextStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _run(host: EngineHost, assemblers: list[Assembler]) -> None:
    """Runs the requests to their ends, or cancels them all if it is interrupted."""
    gathering = Gathering(host, assemblers)
    events: SimpleQueue[list[Event]] = SimpleQueue()
    try:
        while not gathering.done:
            gathering.submit(events)
            gathering.add(events.get())
    finally:
        gathering.cancel()
