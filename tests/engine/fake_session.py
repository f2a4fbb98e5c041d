"""A session over the fake decoder, with the tokenizer of the embedded model."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fake_decoder import FakeDecoder, expected_tokens

from rocmforge.engine.config import EngineConfig
from rocmforge.engine.session import Session
from rocmforge.model.execution_plan import Placement
from rocmforge.model.loader import embedded_model
from rocmforge.tokenizer import Tokenizer

PATIENCE_S = 20.0


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_gguf(embedded_model())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Gate:
    """Lets the decoder's steps through one by one, or all of them once it is open."""

    def __init__(self) -> None:
        self._tickets = threading.Semaphore(0)
        self._open = threading.Event()
        self.has_come = False  # a step has got here

    def wait(self) -> None:
        self.has_come = True
        while not self._open.is_set():
            if self._tickets.acquire(timeout=0.01):
                return

    def let_through(self, num_steps: int) -> None:
        self._tickets.release(num_steps)

    def open(self) -> None:
        self._open.set()


class FakeModel:
    """What `Session.load` loads while the patch is in place."""

    def __init__(self, *, max_queue: int = 256, **decoder: Any) -> None:
        self._max_queue = max_queue
        self.gate = Gate()
        self.gate.open()
        settings = {"max_num_tokens": 512, "max_num_seqs": 64, "max_model_len": 64, **decoder}
        self.decoder = FakeDecoder(vocab_size=tokenizer().vocab_size, **settings)
        self.decoder.before_enqueue = lambda: self.gate.wait()

    def close_gate(self) -> None:
        self.gate = Gate()

    def load(self, model: object, config: EngineConfig, progress: object = None) -> Session:  # noqa: ARG002
        return Session(
            self.decoder,
            tokenizer(),
            replace(config, max_queue=self._max_queue),
            name="fake.gguf",
            placement=[Placement("all", "cpu", "it is a fake")],
            num_fallbacks=0,
            load_s=0.5,
        )

    def expected(self, prompt: list[int], seed: int, max_tokens: int) -> list[int]:
        return expected_tokens(
            prompt,
            seed=seed,
            vocab_size=self.decoder.vocab_size,
            max_tokens=max_tokens,
            max_model_len=self.decoder.max_model_len,
            stop_token_ids=frozenset(tokenizer().eog_ids),
        )[0]


@contextmanager
def fake_model(**settings: Any) -> Iterator[FakeModel]:
    model = FakeModel(**settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "load", model.load)
        try:
            yield model
        finally:
            model.gate.open()


def engine_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "rocmforge-engine"]
