"""llama.cpp's low-level interface, as far as the measurements need it."""

from __future__ import annotations

import ctypes

import llama_cpp
import numpy as np

UBATCH_TOKENS = 512
CONTEXT_STEP = 256  # llama.cpp rounds a sequence's context up to this


class Model:
    """A loaded model; without `repack` its weights stay as they are in the file."""

    def __init__(self, path: str, *, repack: bool) -> None:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            message = "llama.cpp could not load the model"
            raise RuntimeError(message)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 2))()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), room, len(room), True, False)
        return list(room[:count])


class Context:
    """Sequences that decode together, each with room for `length` tokens of f16 cache."""

    def __init__(
        self, model: Model, *, num_sequences: int, length: int, threads: int, flash_attention: bool
    ) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = num_sequences * (-(-length // CONTEXT_STEP) * CONTEXT_STEP)
        params.n_seq_max = num_sequences
        params.n_batch = params.n_ubatch = UBATCH_TOKENS
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if flash_attention
            else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self._context = llama_cpp.llama_init_from_model(model.model, params)
        if not self._context:
            message = "llama.cpp could not make the context"
            raise RuntimeError(message)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(UBATCH_TOKENS, 0, 1)
        self._vocab_size = model.vocab_size

    def prefill(self, prompts: list[list[int]]) -> np.ndarray:
        """[sequences, vocab]: logits after the last token of each prompt; all of one length."""
        tokens = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        rows = []
        for first in range(0, len(tokens), UBATCH_TOKENS):
            part = tokens[first : first + UBATCH_TOKENS]
            self._run(part)
            if last := sum(wanted for *_, wanted in part):
                rows.append(self._logits(last).copy())
        return np.concatenate(rows)

    def decode(self, token_ids: list[int], position: int) -> np.ndarray:
        """[sequences, vocab]: logits after one more token of each sequence; a view."""
        self._run([(token, position, i, True) for i, token in enumerate(token_ids)])
        return self._logits(len(token_ids))

    def forget(self, position: int) -> None:
        """Removes what lies at `position` and behind it from every sequence."""
        llama_cpp.llama_memory_seq_rm(self._memory, -1, position, -1)

    def close(self) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _run(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        if status := llama_cpp.llama_decode(self._context, batch):
            message = f"llama_decode: {status}"
            raise RuntimeError(message)

    def _logits(self, rows: int) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits(self._context)
        floats = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(floats, (rows, self._vocab_size))
