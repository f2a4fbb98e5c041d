"""A decoder whose next token is a hash of what its KV cache holds, read back through the block
table. A wrong slot, block, position or order changes the tokens, so comparing them with
`expected_tokens` checks everything between. Every rule of the Decoder protocol that the engine
has to keep is asserted.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from rocmforge.engine.batch import Batch
from rocmforge.engine.sampling import SamplingBatch


def _repeated(sampling: SamplingBatch) -> list[set[int] | None]:
    ids, offsets = sampling.adjust_ids, sampling.adjust_offsets
    return [
        None
        if sampling.repetition_penalty[row] == 1.0
        else set(ids[offsets[row] : offsets[row + 1]].tolist())
        for row in range(sampling.num_rows)
    ]


def _hash(token_ids: Iterable[int], salt: int) -> int:
    content = array("Q", [salt, *token_ids]).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def next_token(token_ids: Iterable[int], seed: int, vocab_size: int) -> int:
    return _hash(token_ids, seed) % vocab_size


def expected_tokens(
    prompt: Iterable[int],
    *,
    seed: int,
    vocab_size: int,
    max_tokens: int,
    max_model_len: int,
    stop_token_ids: frozenset[int] = frozenset(),
) -> tuple[list[int], str]:
    """What a request alone in the world would get, and how it would end."""
    token_ids = list(prompt)
    num_prompt_tokens = len(token_ids)
    while len(token_ids) < min(num_prompt_tokens + max_tokens, max_model_len):
        token_ids.append(next_token(token_ids, seed, vocab_size))
        if token_ids[-1] in stop_token_ids:
            return token_ids[num_prompt_tokens:], "stop"
    return token_ids[num_prompt_tokens:], "length"


def expected_row(token_ids: Iterable[int], width: int) -> np.ndarray:
    """The logits (or the hidden state, by its width) after `token_ids`."""
    return np.random.default_rng(_hash(token_ids, 0)).standard_normal(width, np.float32)


@dataclass
class FakeOutput:
    token_ids: np.ndarray
    logprobs: np.ndarray
    top_ids: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None


@dataclass
class _Step:
    batch: Batch
    seeds: list[int] | None  # a row; None if nothing is drawn
    num_logprobs: int
    repeated: list[set[int] | None] | None  # a row: ids its repetition penalty counts, if any
    previous: _Step | None
    is_lost: bool = False
    token_ids: list[int] | None = None  # drawn; None until the step has run
    histories: list[list[int]] | None = None  # a row: the tokens it has seen


class FakeDecoder:
    hidden_size = 6

    def __init__(
        self,
        *,
        num_blocks: int = 64,
        block_size: int = 4,
        vocab_size: int = 50,
        lookahead: int = 0,
        max_num_tokens: int = 32,
        max_num_seqs: int = 8,
        max_model_len: int = 64,
        is_causal: bool = True,
    ) -> None:
        self.num_blocks, self.block_size, self.vocab_size = num_blocks, block_size, vocab_size
        self.lookahead, self.max_model_len = lookahead, max_model_len
        self.is_causal = is_causal
        self.max_num_tokens, self.max_num_seqs = max_num_tokens, max_num_seqs
        self.before_enqueue: Callable[[], None] = lambda: None
        self.before_collect: Callable[[], None] = lambda: None
        self.is_bad: Callable[[int], bool] = lambda _: False  # by seed: no token can be drawn
        self.num_computed_tokens = 0
        self.progress = 0
        self.num_replays = 0
        self.recording_problem: str | None = None
        self.row_counts: list[int] = []  # of steps that handed out rows
        self._cache: list[tuple[int, int] | None] = [None] * (num_blocks * block_size)
        self._steps: dict[int, _Step] = {}
        self._in_flight: deque[int] = deque()
        self._num_enqueued = 0

    def enqueue(self, batch: Batch, sampling: SamplingBatch | None) -> int:
        self.before_enqueue()
        handle = self._num_enqueued
        self._num_enqueued += 1
        self._check(batch, sampling)
        step = _Step(
            batch=Batch(*(getattr(batch, name).copy() for name in Batch.__slots__)),
            seeds=None if sampling is None else sampling.seed[: sampling.num_rows].tolist(),
            num_logprobs=-1 if sampling is None else sampling.max_logprobs,
            repeated=None if sampling is None else _repeated(sampling),
            previous=self._steps.get(handle - 1),
        )
        self._steps = {h: s for h, s in self._steps.items() if h >= handle - 1} | {handle: step}
        self._in_flight.append(handle)
        assert len(self._in_flight) <= self.lookahead + 1
        if self.lookahead == 0:
            self._run(step)
        return handle

    def collect(self, handle: int) -> FakeOutput:
        assert handle == self._in_flight.popleft()
        try:
            self.before_collect()
        except MemoryError:  # steps in flight build on the one that failed
            for later in self._in_flight:
                self._steps[later].is_lost = True
            raise
        step = self._steps[handle]
        if step.token_ids is None:
            self._run(step)
        assert step.token_ids is not None
        output = FakeOutput(
            np.array(step.token_ids, np.int32),
            np.array([-token_id / 100 for token_id in step.token_ids], np.float32),
        )
        if step.num_logprobs > 0:
            ids = np.arange(step.num_logprobs, dtype=np.int32)
            output.top_ids = np.tile(ids, (len(step.token_ids), 1))
            output.top_logprobs = -output.top_ids.astype(np.float32) / 100
        return output

    def logits(self, handle: int) -> np.ndarray:
        assert self.is_causal
        return self._rows(handle, self.vocab_size)

    def hidden(self, handle: int) -> np.ndarray:
        return self._rows(handle, self.hidden_size)

    def _rows(self, handle: int, width: int) -> np.ndarray:
        assert handle == self._num_enqueued - 1, "rows are valid until the next enqueue()"
        step = self._steps[handle]
        assert step.seeds is None, "drawing has altered the logits"
        self.row_counts.append(len(step.batch.logit_rows))
        histories = step.histories
        assert histories is not None
        return np.array([expected_row(history, width) for history in histories])

    def _run(self, step: _Step) -> None:
        self.progress += 1
        batch, size = step.batch, self.block_size
        previous = step.previous.token_ids if step.previous else None
        if step.is_lost:
            step.token_ids = [0] * len(batch.logit_rows)
            return
        step.previous = None
        rows = [-1] * len(batch.token_ids)
        for row, token_row in enumerate(batch.logit_rows.tolist()):
            rows[token_row] = row
        step.token_ids, step.histories = [], []
        starts = batch.query_start_loc.tolist()
        for seq, table in enumerate(batch.block_tables.tolist()):
            for i in range(starts[seq], starts[seq + 1]):
                token_id, position = int(batch.token_ids[i]), int(batch.positions[i])
                if token_id < 0:
                    assert previous is not None
                    token_id = max(previous[-token_id - 1], 0)
                self._cache[batch.slot_mapping[i]] = (token_id, position)
                self.num_computed_tokens += 1
                if rows[i] >= 0:
                    cached = [
                        self._cache[table[p // size] * size + p % size] for p in range(position + 1)
                    ]
                    assert all(c is not None and c[1] == p for p, c in enumerate(cached))
                    history = [c[0] for c in cached if c is not None]
                    step.histories.append(history)
                    if step.seeds is not None and step.repeated is not None:
                        assert step.repeated[rows[i]] in (None, set(history))
                        seed = step.seeds[rows[i]]
                        token_id = next_token(history, seed, self.vocab_size)
                        step.token_ids.append(-1 if self.is_bad(seed) else token_id)

    def _check(self, batch: Batch, sampling: SamplingBatch | None) -> None:
        for name in Batch.__slots__:
            values = getattr(batch, name)
            assert values.dtype == np.int32
            assert values.flags.c_contiguous
        num_tokens, num_seqs = len(batch.token_ids), len(batch.seq_lens)
        assert 1 <= num_tokens <= self.max_num_tokens
        assert 1 <= num_seqs <= self.max_num_seqs
        assert len(batch.positions) == len(batch.slot_mapping) == num_tokens
        starts = batch.query_start_loc.tolist()
        assert len(starts) == num_seqs + 1
        assert starts[0] == 0
        assert starts[-1] == num_tokens
        assert batch.logit_rows.tolist() == sorted(set(batch.logit_rows.tolist()))
        assert len(set(batch.slot_mapping.tolist())) == num_tokens
        self._check_sources(batch)
        tables = []
        for seq, row in enumerate(batch.block_tables.tolist()):
            begin, end = starts[seq], starts[seq + 1]
            seq_len = int(batch.seq_lens[seq])
            assert batch.positions[begin:end].tolist() == list(
                range(seq_len - end + begin, seq_len)
            )
            assert self.is_causal or seq_len == end - begin
            num_blocks = -(-seq_len // self.block_size)
            table = row[:num_blocks]
            assert min(table) >= 0
            assert max(table) < self.num_blocks
            assert set(row[num_blocks:]) <= {-1}
            tables.append(table)
            for position, slot in zip(
                batch.positions[begin:end], batch.slot_mapping[begin:end], strict=True
            ):
                block_id, offset = divmod(int(slot), self.block_size)
                assert block_id == table[position // self.block_size]
                assert offset == position % self.block_size
        self._check_ownership(batch, tables)
        if sampling is not None:
            assert sampling.num_rows == len(batch.logit_rows)
            drawn_positions = batch.positions[batch.logit_rows] + 1
            assert (sampling.position[: sampling.num_rows] == drawn_positions).all()

    def _check_sources(self, batch: Batch) -> None:
        """Unknown ids come from the step before, while that is in flight."""
        unknown = batch.token_ids[batch.token_ids < 0]
        assert batch.token_ids.max() < self.vocab_size
        if len(unknown):
            assert self.lookahead
            assert self._in_flight
            previous = self._steps[self._num_enqueued - 2]
            assert -int(unknown.min()) <= len(previous.batch.logit_rows)

    def _check_ownership(self, batch: Batch, tables: list[list[int]]) -> None:
        """No block is written that another sequence of this step or of one in flight uses."""
        written: dict[int, list[int]] = {}
        for table, begin, end in zip(
            tables, batch.query_start_loc[:-1], batch.query_start_loc[1:], strict=True
        ):
            for slot in batch.slot_mapping[begin:end].tolist():
                written[slot // self.block_size] = table
        for other in tables:
            assert all(written.get(block_id, other) is other for block_id in other)
        for handle in self._in_flight:
            for row in self._steps[handle].batch.block_tables.tolist():
                other = [block_id for block_id in row if block_id >= 0]
                for block_id in other:
                    table = written.get(block_id)
                    assert table is None or table[: len(other)] == other
