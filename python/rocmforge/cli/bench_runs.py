"""What `rocmforge bench` times: prompts, decoding, and decoding of several sequences together.

The engine is stepped from here, on this thread, so that a token's time is known to the step.
Prompts are random tokens, different in every repetition: none is ever found in the cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Event, Finished, Submit, TokenEvent
from rocmforge.engine.sampling import SamplingParams

if TYPE_CHECKING:
    from rocmforge.engine.scheduler import SchedulerConfig
    from rocmforge.model.loader import LoadedModel

BATCH_PROMPT_TOKENS = 32


@dataclass(frozen=True)
class Case:
    """One line of the result."""

    name: str
    num_sequences: int
    num_prompt_tokens: int
    num_output_tokens: int  # timed, of each sequence; 0 times the prompt instead

    @property
    def num_tokens(self) -> int:
        """Of a sequence, the token included that comes with the prompt."""
        return self.num_prompt_tokens + self.num_output_tokens + 1


@dataclass(frozen=True)
class Result:
    case: Case
    rates: tuple[float, ...]  # tokens per second, one of each repetition
    bytes_per_token: float  # weights and cache read

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def bytes_per_s(self) -> float:
        return self.median * self.bytes_per_token


def cases(prompt: int, output: int, depths: list[int], batches: list[int]) -> list[Case]:
    """pp`prompt`, tg`output` at each depth, and `output` tokens of each size of batch."""
    result = []
    if prompt:
        result.append(Case(f"pp{prompt}", 1, prompt, 0))
    if output:
        for depth in depths:
            suffix = f"@d{depth}" if depth else ""
            result.append(Case(f"tg{output}{suffix}", 1, max(1, depth), output))
        for size in batches:
            result.append(Case(f"batch{size}", size, BATCH_PROMPT_TOKENS, output))
    return result


@dataclass
class _Clock:
    """Times of the tokens of one run, by request."""

    times: dict[int, list[float]] = field(default_factory=dict)
    error: Exception | None = None

    def publish(self, events: list[Event]) -> None:
        now = time.perf_counter()
        for event in events:
            if isinstance(event, TokenEvent):
                self.times.setdefault(event.request_id, []).append(now)
            elif isinstance(event, Finished) and event.error is not None:
                self.error = event.error


class Bench:
    """Runs cases on a loaded model."""

    def __init__(self, model: LoadedModel, config: SchedulerConfig, seed: int = 0) -> None:
        self._clock = _Clock()
        self._engine = Engine(model.decoder, config, lambda events: self._clock.publish(events))
        self._model = model
        self._random = np.random.default_rng(seed)
        self._next_id = 0

    def run(self, case: Case, repetitions: int, announce: Callable[[str], None]) -> Result:
        """Times `case` after one run that does not count."""
        announce(f"{case.name}: warming up")
        self.rate(case)
        rates = []
        for i in range(repetitions):
            announce(f"{case.name}: run {i + 1} of {repetitions}")
            rates.append(self.rate(case))
        return Result(case, tuple(rates), self.bytes_per_token(case))

    def rate(self, case: Case) -> float:
        """Tokens per second over all sequences of one run."""
        self._clock = clock = _Clock()
        engine = self._engine
        params = SamplingParams(
            temperature=0.0, max_tokens=case.num_output_tokens + 1, ignore_eos=True
        )
        start = time.perf_counter()
        for _ in range(case.num_sequences):
            engine.submit(Submit(self._next_id, self._prompt(case.num_prompt_tokens), params))
            self._next_id += 1
        while engine.step():
            pass
        if clock.error is not None:
            raise clock.error
        times = list(clock.times.values())
        if case.num_output_tokens == 0:
            return case.num_prompt_tokens / (times[0][0] - start)
        # While all sequences decode: the last to start has started, the first has not ended.
        begin, end = max(t[0] for t in times), min(t[-1] for t in times)
        return sum(begin < moment <= end for t in times for moment in t) / (end - begin)

    def _prompt(self, num_tokens: int) -> list[int]:
        return self._random.integers(0, self._model.config.vocab_size, num_tokens).tolist()  # type: ignore[no-any-return]

    def bytes_per_token(self, case: Case) -> float:
        """Weights are read once a step; a decoding sequence reads its whole cache besides."""
        decoder = self._model.decoder
        weights = float(decoder.weight_bytes)
        if case.num_output_tokens == 0:
            steps = -(-case.num_prompt_tokens // decoder.max_num_tokens)
            return weights * steps / case.num_prompt_tokens
        position_bytes = decoder.kv_bytes / (decoder.num_blocks * decoder.block_size)
        mean_length = case.num_prompt_tokens + (case.num_output_tokens + 1) / 2
        return weights / case.num_sequences + mean_length * position_bytes
