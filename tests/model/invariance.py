"""Random circumstances for fixed requests: whatever happens around a request, its answer stays.

A `Circumstance` is everything that may differ: threads, step budget, page size, the number of
blocks (few of them mean preemption), which of the fixed requests run, when they and strangers
arrive, whether a request comes twice (the second finds the first one's blocks), who is cancelled.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rocmforge.engine.engine import Engine
from rocmforge.engine.messages import Cancel, Event, Finished, RowsEvent, Submit, TokenEvent
from rocmforge.engine.sampling import SamplingParams
from rocmforge.engine.scheduler import SchedulerConfig
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions

MAX_MODEL_LEN = 96
MAX_NUM_SEQS = 8
ROUND = 100  # a repeated request has its id plus this
STRANGER = 1000  # request ids from here on are not compared


@dataclass(frozen=True)
class Circumstance:
    threads: int = 1
    budget: int = 128  # tokens of one step
    block_size: int = 16
    spare_blocks: int = 1000  # beyond what the longest sequence needs
    strangers: int = 0
    gap: int = 0  # steps between arrivals, at most
    repeats: int = 0  # of each fixed request
    cancels: int = 0  # of the strangers
    seed: int = 0

    @classmethod
    def draw(cls, rng: random.Random) -> Circumstance:
        block_size = rng.choice([1, 3, 8, 16, 32])
        return cls(
            threads=rng.choice([1, 2, 3]),
            budget=rng.choice([MAX_NUM_SEQS, 9, 17, 40, 128]),
            block_size=block_size,
            spare_blocks=rng.choice([0, 1, 2, 40 // block_size, 1000]),
            strangers=rng.randrange(6),
            gap=rng.choice([0, 0, 1, 4]),
            repeats=rng.choice([0, 0, 1]),
            cancels=rng.choice([0, 0, 2]),
            seed=rng.randrange(2**32),
        )


@dataclass(frozen=True)
class Answer:
    """What must not differ in a bit."""

    token_ids: tuple[int, ...]
    logprobs: tuple[tuple[tuple[int, float], ...], ...]  # of the 20 likeliest, at each position
    rows: bytes  # of requests for logits
    reason: str


def fixed_requests(vocab_size: int) -> list[Submit]:
    """Prompts around the edges of pages, some sharing a prefix; every kind of sampling."""
    rng = np.random.default_rng(3)
    shared = rng.integers(0, vocab_size, 33).tolist()
    other = rng.integers(0, vocab_size, 40).tolist()
    kinds = [
        (shared[:1], SamplingParams(max_tokens=8, temperature=0, logprobs=20)),
        (shared[:16], SamplingParams(max_tokens=9, temperature=1.5, top_k=0, top_p=1, logprobs=20)),
        (shared[:17], SamplingParams(max_tokens=5, temperature=0.7, top_p=0.9, logprobs=20)),
        (shared, SamplingParams(max_tokens=12, temperature=1, min_p=0.05, top_k=0, logprobs=20)),
        (
            other,
            SamplingParams(
                max_tokens=10, repetition_penalty=1.3, frequency_penalty=0.5, logprobs=20
            ),
        ),
    ]
    requests = [Submit(i, prompt, params, seed=100 + i) for i, (prompt, params) in enumerate(kinds)]
    for prompt in (shared[:20], other):
        requests.append(Submit(len(requests), prompt, None, output="logits"))
    return requests


def answers(
    model: Path, requests: Sequence[Submit], how: Circumstance, options: LoadOptions
) -> dict[int, list[Answer]]:
    """Runs the requests under the circumstance; every answer that each of them got."""
    rng = random.Random(how.seed)
    engine, events = _engine(model, how, options)
    arrivals = [
        replace(request, request_id=request.request_id + ROUND * turn)
        for turn in range(1 + how.repeats)
        for request in requests
    ]
    strangers = [_stranger(STRANGER + i, rng, requests) for i in range(how.strangers)]
    arrivals += strangers
    rng.shuffle(arrivals)
    cancels = rng.sample(strangers, min(how.cancels, len(strangers)))
    while arrivals or cancels or engine.has_work:
        if arrivals:
            engine.submit(arrivals.pop())
        for _ in range(rng.randint(0, how.gap)):
            engine.step()
        if cancels and rng.random() < 0.3:
            engine.cancel(Cancel(cancels.pop().request_id))
        if not arrivals:
            engine.step()
    engine.step()
    engine.scheduler.check_integrity()
    return _collect(events, exact=options.deterministic)


def _engine(model: Path, how: Circumstance, options: LoadOptions) -> tuple[Engine, list[Event]]:
    num_blocks = -(-MAX_MODEL_LEN // how.block_size) + how.spare_blocks
    options = replace(
        options,
        threads=how.threads,
        block_size=how.block_size,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_tokens=how.budget,
    )
    loaded = load_model(model, replace(options, num_blocks=num_blocks))
    events: list[Event] = []
    config = SchedulerConfig(how.budget, MAX_NUM_SEQS)
    return Engine(loaded.decoder, config, events.extend), events


def _stranger(request_id: int, rng: random.Random, requests: Sequence[Submit]) -> Submit:
    """A random request; often it begins like one of the fixed ones, for a shared prefix."""
    prompt = [rng.randrange(500) for _ in range(rng.randint(1, 50))]
    if rng.random() < 0.6:
        known = list(rng.choice(requests).prompt_token_ids)
        prompt = known[: rng.randint(0, len(known))] + prompt[: rng.randint(1, 10)]
    if rng.random() < 0.2:
        return Submit(request_id, prompt, None, output=rng.choice(["logits", "hidden"]))
    params = SamplingParams(max_tokens=rng.randint(1, 20), seed=rng.randrange(2**32))
    return Submit(request_id, prompt, params)


def _collect(events: Sequence[Event], *, exact: bool) -> dict[int, list[Answer]]:
    """exact: rows that a preempted request computes again must be the same bits."""
    token_ids: dict[int, list[int]] = defaultdict(list)
    logprobs: dict[int, list[tuple[tuple[int, float], ...]]] = defaultdict(list)
    rows: dict[int, dict[int, bytes]] = defaultdict(dict)  # by position
    result: dict[int, list[Answer]] = defaultdict(list)
    for event in events:
        i = event.request_id
        if i >= STRANGER:
            continue
        if isinstance(event, TokenEvent):
            token_ids[i].append(event.token_id)
            logprobs[i].append(tuple((event.logprobs or {}).items()))
        elif isinstance(event, RowsEvent):
            for position, row in enumerate(event.rows, event.start):
                first = rows[i].setdefault(position, row.tobytes())
                assert not exact or first == row.tobytes()
        elif isinstance(event, Finished):
            assert event.error is None, event.error
            logits = b"".join(rows[i][position] for position in range(len(rows[i])))
            result[i % ROUND].append(
                Answer(tuple(token_ids[i]), tuple(logprobs[i]), logits, event.reason)
            )
    return result
