"""InferenceEngine: requests by id, from any thread, whose state can be asked for."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, final

import numpy as np
import numpy.typing as npt

from rocmforge.engine.config import EngineConfig
from rocmforge.engine.messages import Cancel, Event, Finished, TokenEvent
from rocmforge.engine.request import FINAL_STATE, FinishReason, RequestState
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.session import Session
from rocmforge.engine.stats import EngineStats
from rocmforge.errors import InvalidArgumentError, UnavailableError
from rocmforge.model.onnx_embedder import OnnxEmbedder

# Ended requests whose status can still be asked for; older ones are forgotten.
MAX_ENDED_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A snapshot of a request."""

    request_id: int
    prompt_tokens: list[int]
    params: SamplingParams
    state: RequestState
    generated_tokens: list[int]
    finish_reason: FinishReason | None
    error: Exception | None


@final
class InferenceEngine:
    """One model, requests by id; thread-safe.

    engine = InferenceEngine(EngineConfig(max_num_seqs=8))
    engine.load_gguf_model("model.gguf")
    engine.start()
    request_id = engine.submit_request([1, 2, 3], max_tokens=16)

    A call that needs a model, or a started engine, raises UnavailableError without it.
    """

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self._session: Session | None = None
        self._embedder: OnnxEmbedder | None = None
        self._is_started = False
        self._loading = threading.Lock()
        self._records = _Records()

    def load_gguf_model(self, path: str | os.PathLike[str]) -> None:
        """Loads the only model of this engine. Raises what loading an `LLM` does."""
        with self._loading:
            self._check_empty()
            self._session = Session.load(path, self.config)

    def load_onnx_model(self, path: str | os.PathLike[str]) -> None:
        """Loads an embedding model, for embed() alone; see `OnnxEmbedder` for what lies beside it.

        Raises UnsupportedError without onnxruntime (the extra `onnx`), and what `OnnxEmbedder` does.
        """
        with self._loading:
            self._check_empty()
            self._embedder = OnnxEmbedder(path, self.config.threads)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """[len(texts), dim] of a model that load_onnx_model() has loaded, each of length 1."""
        if self._embedder is None:
            msg = "no embedding model is loaded; call load_onnx_model() first"
            raise UnavailableError(msg)
        return self._embedder.embed(texts)

    def start(self) -> None:
        """Lets requests in."""
        self._loaded()
        self._is_started = True

    def submit_request(
        self,
        prompt_tokens: Sequence[int],
        max_tokens: int = 128,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        *,
        seed: int | None = None,
    ) -> int:
        """Queues a request and returns its id.

        Raises InvalidArgumentError for one that can never run and CapacityError if the queue is
        full.
        """
        session = self._loaded()
        if not self._is_started:
            msg = "the engine has not been started; call start() first"
            raise UnavailableError(msg)
        params = SamplingParams(
            max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
        )
        submit = session.token_submit(list(prompt_tokens), params)
        self._records.add(submit.request_id, list(prompt_tokens), params)
        try:
            session.host.submit(submit, self._records)
        except BaseException:
            self._records.drop(submit.request_id)
            raise
        return submit.request_id

    def get_request_status(self, request_id: int) -> GenerationRequest | None:
        """A snapshot; None for an id that is unknown or has ended too long ago."""
        session = self._session
        state = None if session is None else session.host.state_of(request_id)
        return self._records.snapshot(request_id, state)

    def cancel_request(self, request_id: int) -> None:
        """Ends a request; one that is unknown or has ended is left alone."""
        self._loaded().host.cancel(Cancel(request_id))

    def get_engine_stats(self) -> EngineStats:
        return self._loaded().host.stats()

    def close(self) -> None:
        """Ends what is running as cancelled and stops the engine. May be called again."""
        if self._session is not None:
            self._session.host.close()

    def __enter__(self) -> InferenceEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check_empty(self) -> None:
        loaded = [self._session.name] if self._session is not None else []
        loaded += [self._embedder.path.name] if self._embedder is not None else []
        if loaded:
            msg = f"{loaded[0]} is loaded already; an engine runs one model"
            raise InvalidArgumentError(msg)

    def _loaded(self) -> Session:
        if self._session is None:
            msg = "no model is loaded; call load_gguf_model() first"
            raise UnavailableError(msg)
        return self._session


@dataclass(slots=True)
class _Record:
    prompt_tokens: list[int]
    params: SamplingParams
    generated_tokens: list[int] = field(default_factory=list)
    finished: Finished | None = None


class _Records:
    """What is known of every request; the channel that the engine's events come through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[int, _Record] = {}
        self._ended: OrderedDict[int, None] = OrderedDict()  # oldest first

    def add(self, request_id: int, prompt_tokens: list[int], params: SamplingParams) -> None:
        with self._lock:
            self._records[request_id] = _Record(prompt_tokens, params)

    def drop(self, request_id: int) -> None:
        with self._lock:
            del self._records[request_id]

    def put(self, events: list[Event]) -> None:
        with self._lock:
            for event in events:
                record = self._records[event.request_id]
                if isinstance(event, TokenEvent):
                    record.generated_tokens.append(event.token_id)
                elif isinstance(event, Finished):
                    record.finished = event
                    self._ended[event.request_id] = None
            while len(self._ended) > MAX_ENDED_KEPT:
                del self._records[self._ended.popitem(last=False)[0]]

    def snapshot(self, request_id: int, state: RequestState | None) -> GenerationRequest | None:
        """`state` is the engine's, None once it has ended the request."""
        with self._lock:
            record = self._records.get(request_id)
            if record is None:
                return None
            finished = record.finished
            if finished is not None:
                state = FINAL_STATE[finished.reason]
            return GenerationRequest(
                request_id=request_id,
                prompt_tokens=list(record.prompt_tokens),
                params=record.params,
                state=state or RequestState.RUNNING,  # ended, its last events on their way
                generated_tokens=list(record.generated_tokens),
                finish_reason=None if finished is None else finished.reason,
                error=None if finished is None else finished.error,
            )
