# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, nonecheck=True
"""Per-request sampling state and its assembly into the arrays of one step.

A request without bias and penalties keeps nothing and costs a constant time a step.
"""

from libc.string cimport memcpy
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

import numpy as np

from rocmforge.errors import InvalidArgumentError


cdef class SamplerState:
    """How the next token of one request is drawn.

    `grammar` is None or a Grammar (rocmforge/engine/sampling.py). `needs_host` says
    that a draw depends on the id of the one before. Raises InvalidArgumentError for a logit_bias
    or a prompt with ids outside of the logits.
    """

    cdef readonly object grammar
    cdef readonly bint needs_host
    cdef float temperature, top_p, min_p, repetition_penalty
    cdef int top_k, num_logprobs, vocab_size
    cdef unsigned long long seed
    cdef double presence_penalty, frequency_penalty
    cdef bint has_penalties

    # One entry per token whose logit changes; `slots` finds a token's entry.
    cdef unordered_map[int, int] slots
    cdef vector[int] ids
    cdef vector[float] bias
    cdef vector[unsigned char] repeated
    cdef vector[float] subtract
    cdef vector[int] counts

    def __init__(self, params, prompt_token_ids, int vocab_size, seed, grammar=None):
        self.grammar = grammar
        self.vocab_size = vocab_size
        self.temperature = params.temperature
        self.top_k = params.top_k
        self.top_p = params.top_p
        self.min_p = params.min_p
        self.repetition_penalty = params.repetition_penalty
        self.presence_penalty = params.presence_penalty
        self.frequency_penalty = params.frequency_penalty
        self.num_logprobs = -1 if params.logprobs is None else params.logprobs
        self.seed = int(seed) & 0xFFFFFFFFFFFFFFFF
        self.has_penalties = (params.repetition_penalty != 1.0 or self.presence_penalty != 0.0
                              or self.frequency_penalty != 0.0)
        self.needs_host = self.has_penalties or grammar is not None
        cdef int slot
        for token_id, value in params.logit_bias.items():
            slot = self._slot_of(token_id)
            self.bias[slot] = value
        if params.repetition_penalty != 1.0:
            for token_id in prompt_token_ids:
                slot = self._slot_of(token_id)
                self.repeated[slot] = 1

    cdef int _slot_of(self, token_id) except -1:
        if not 0 <= token_id < self.vocab_size:
            msg = (f"token id {token_id} is outside the model's logits, which have "
                   f"{self.vocab_size} entries")
            raise InvalidArgumentError(msg)
        cdef int token = token_id
        found = self.slots.find(token)
        if found != self.slots.end():
            return self.slots[token]
        cdef int slot = <int>self.ids.size()
        self.slots[token] = slot
        self.ids.push_back(token)
        self.bias.push_back(0.0)
        self.repeated.push_back(0)
        self.subtract.push_back(0.0)
        self.counts.push_back(0)
        return slot

    @property
    def is_finished(self):
        """Whether the grammar leaves nothing but the end to follow."""
        return self.grammar is not None and self.grammar.is_finished

    @property
    def error(self):
        """Why the grammar has failed, so that no token is allowed any more; None if it has not."""
        return None if self.grammar is None else self.grammar.error

    def append(self, token_id):
        """Takes note of an output token; raises `error` if the grammar fails over it."""
        cdef int slot
        if self.grammar is not None:
            self.grammar.accept(token_id)
        if self.has_penalties:
            slot = self._slot_of(token_id)
            self.repeated[slot] = 1
            self.counts[slot] += 1
            self.subtract[slot] = (self.presence_penalty
                                   + self.frequency_penalty * self.counts[slot])


cdef class SamplingBatch:
    """What the decoder reads of a step's rows: the arrays of native/model/sampling.hpp.

    Those with a value per row are `num_rows` long or longer. `max_logprobs` is the largest of
    num_logprobs, -1 where no row wants any.
    """

    cdef readonly int num_rows, max_logprobs
    cdef readonly object temperature, top_k, top_p, min_p, repetition_penalty
    cdef readonly object seed, position, num_logprobs, mask_row
    cdef readonly object adjust_offsets, adjust_ids, adjust_bias, adjust_repeated, adjust_subtract
    cdef readonly object masks


cdef class SamplingBatchBuilder:
    """Assembles the sampling of a step in arrays that it allocates once and grows when it must."""

    cdef SamplingBatch batch
    cdef int max_rows, mask_words
    cdef float[::1] temperature, top_p, min_p, repetition_penalty, adjust_bias, adjust_subtract
    cdef int[::1] top_k, num_logprobs, mask_row, adjust_offsets, adjust_ids
    cdef unsigned char[::1] adjust_repeated
    cdef unsigned long long[::1] seed
    cdef long long[::1] position

    def __init__(self, int max_rows, int vocab_size):
        cdef SamplingBatch batch = SamplingBatch()
        self.batch = batch
        self.max_rows = max_rows
        self.mask_words = (vocab_size + 31) // 32
        self.temperature = batch.temperature = np.empty(max_rows, np.float32)
        self.top_k = batch.top_k = np.empty(max_rows, np.int32)
        self.top_p = batch.top_p = np.empty(max_rows, np.float32)
        self.min_p = batch.min_p = np.empty(max_rows, np.float32)
        self.repetition_penalty = batch.repetition_penalty = np.empty(max_rows, np.float32)
        self.seed = batch.seed = np.empty(max_rows, np.uint64)
        self.position = batch.position = np.empty(max_rows, np.int64)
        self.num_logprobs = batch.num_logprobs = np.empty(max_rows, np.int32)
        self.mask_row = batch.mask_row = np.empty(max_rows, np.int32)
        self.adjust_offsets = batch.adjust_offsets = np.zeros(max_rows + 1, np.int32)
        batch.masks = np.empty((0, self.mask_words), np.uint32)
        self._allocate_adjustments(0)

    cdef _allocate_adjustments(self, size_t size):
        cdef SamplingBatch batch = self.batch
        self.adjust_ids = batch.adjust_ids = np.empty(size, np.int32)
        self.adjust_bias = batch.adjust_bias = np.empty(size, np.float32)
        self.adjust_repeated = batch.adjust_repeated = np.empty(size, np.uint8)
        self.adjust_subtract = batch.adjust_subtract = np.empty(size, np.float32)

    def build(self, list states not None, list positions not None):
        """Returns the batch for one row per state, valid until the next build().

        positions[i] is the index that the token drawn for states[i] will have in its sequence.
        """
        cdef int num_rows = <int>len(states)
        if num_rows > self.max_rows or len(positions) != num_rows:
            msg = (f"{num_rows} states and {len(positions)} positions; there must be as many of "
                   f"each, up to {self.max_rows}")
            raise InvalidArgumentError(msg)
        cdef int r, num_masks = 0, max_logprobs = -1
        cdef size_t num_adjustments = 0
        cdef SamplerState state
        for r in range(num_rows):
            state = states[r]
            self.temperature[r] = state.temperature
            self.top_k[r] = state.top_k
            self.top_p[r] = state.top_p
            self.min_p[r] = state.min_p
            self.repetition_penalty[r] = state.repetition_penalty
            self.seed[r] = state.seed
            self.position[r] = positions[r]
            self.num_logprobs[r] = state.num_logprobs
            max_logprobs = max(max_logprobs, state.num_logprobs)
            self.mask_row[r] = -1
            if state.grammar is not None:
                self.mask_row[r] = num_masks
                num_masks += 1
            num_adjustments += state.ids.size()
            self.adjust_offsets[r + 1] = <int>num_adjustments
        self.batch.num_rows = num_rows
        self.batch.max_logprobs = max_logprobs
        if num_adjustments:
            self._copy_adjustments(states, num_adjustments)
        if num_masks:
            self._fill_masks(states, num_masks)
        return self.batch

    cdef _copy_adjustments(self, list states, size_t total):
        if total > <size_t>self.adjust_ids.shape[0]:
            self._allocate_adjustments(2 * total)
        cdef SamplerState state
        cdef size_t n, at = 0
        for item in states:
            state = item
            n = state.ids.size()
            if n:
                memcpy(&self.adjust_ids[at], state.ids.data(), n * sizeof(int))
                memcpy(&self.adjust_bias[at], state.bias.data(), n * sizeof(float))
                memcpy(&self.adjust_repeated[at], state.repeated.data(), n)
                memcpy(&self.adjust_subtract[at], state.subtract.data(), n * sizeof(float))
                at += n

    cdef _fill_masks(self, list states, int num_masks):
        if num_masks > self.batch.masks.shape[0]:
            self.batch.masks = np.empty((num_masks, self.mask_words), np.uint32)
        masks = self.batch.masks
        masks[:num_masks] = 0
        cdef SamplerState state
        cdef int i = 0
        for item in states:
            state = item
            if state.grammar is not None:
                state.grammar.fill_mask(masks[i])
                i += 1
