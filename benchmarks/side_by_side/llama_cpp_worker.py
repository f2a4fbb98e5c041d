"""llama.cpp as a worker, through llama-cpp-python's low-level interface.

Draws greedily by numpy's argmax over the logits: llama.cpp's own sampler chain takes longer.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from side_by_side.llama_cpp_context import Context, Model
from side_by_side.worker import built_with, floats_as_text, peak_rss_bytes, serve


class LlamaCpp:
    def __init__(self) -> None:
        self._silence = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._silence, None)
        llama_cpp.llama_backend_init()
        self._random = np.random.default_rng(0)
        self._threads = 0
        self._model: Model | None = None
        # Of one shape, by whether they use flash attention, and what was drawn after the prompts
        # that they hold.
        self._shape = (0, 0)
        self._contexts: dict[bool, Context] = {}
        self._drawn: dict[bool, list[int]] = {}

    def describe(self) -> dict[str, Any]:
        folder = Path(llama_cpp.__file__).parent / "lib"
        version = llama_cpp.llama_cpp._lib.llama_version
        version.restype = llama_cpp.llama_cpp.ctypes.c_char_p
        return {
            "llama-cpp-python": importlib.metadata.version("llama-cpp-python"),
            "llama.cpp": version().decode(),
            "ggml": max(name.name.partition(".so.")[2] for name in folder.glob("libggml.so.*")),
            "system": llama_cpp.llama_print_system_info().decode().strip(" |\n"),
            "built_with": built_with(folder.glob("libggml-cpu*.so")),
            "python": platform.python_version(),
        }

    def load(self, path: str, threads: int, repack: bool) -> dict[str, Any]:
        start = time.perf_counter()
        self._threads = threads
        self._model = Model(path, repack=repack)
        return {"load_s": time.perf_counter() - start}

    def run(
        self, num_sequences: int, prompt: int, output: int, flash_attention: bool
    ) -> dict[str, Any]:
        """Tokens per second of a prompt, or of decoding where `output` is not 0."""
        context = self._context_for(num_sequences, prompt + output + 1, flash_attention)
        vocab_size = self._loaded().vocab_size
        prompts = self._random.integers(0, vocab_size, (num_sequences, prompt)).tolist()
        if output == 0:
            context.forget(0)
            start = time.perf_counter()
            context.prefill(prompts).argmax()
            return {"tokens_per_s": prompt / (time.perf_counter() - start)}
        if flash_attention in self._drawn:
            context.forget(prompt)
        else:
            self._drawn[flash_attention] = context.prefill(prompts).argmax(axis=1).tolist()
        tokens = self._drawn[flash_attention]
        start = time.perf_counter()
        for position in range(prompt, prompt + output):
            tokens = context.decode(tokens, position).argmax(axis=1).tolist()
        return {"tokens_per_s": num_sequences * output / (time.perf_counter() - start)}

    def first_token(
        self, path: str, threads: int, started: float, text: str, context: int, repack: bool
    ) -> dict[str, Any]:
        """Loads and draws one token, with seconds since now and since `started`, monotonic."""
        imported = time.monotonic()
        self.load(path, threads, repack)
        prompt = self._loaded().tokenize(text)
        self._context_for(1, context, True).prefill([prompt]).argmax()
        now = time.monotonic()
        return {"load_to_first_token_s": now - imported, "process_to_first_token_s": now - started}

    def memory(self, prompt: int, output: int) -> dict[str, Any]:
        """Peak memory after a prompt and some decoding in the context of first_token()."""
        context = self._open_context()
        context.forget(0)
        tokens = self._random.integers(0, self._loaded().vocab_size, prompt).tolist()
        token = int(context.prefill([tokens]).argmax())
        for position in range(prompt, prompt + output):
            token = int(context.decode([token], position).argmax())
        return {"peak_rss_bytes": peak_rss_bytes()}

    def logits(self, prompt: list[int], output: list[int]) -> dict[str, Any]:
        """[1 + len(output), vocab]: after the prompt at once and each token of `output`."""
        context = self._open_context()
        context.forget(0)
        rows = [context.prefill([prompt])[0]]
        for position, token in enumerate(output, len(prompt)):
            rows.append(context.decode([token], position)[0].copy())
        return {"logits": floats_as_text(np.array(rows, "<f4").tobytes())}

    def _loaded(self) -> Model:
        if self._model is None:
            message = "no model is loaded"
            raise RuntimeError(message)
        return self._model

    def _open_context(self) -> Context:
        if not self._contexts:
            message = "first_token() makes the context"
            raise RuntimeError(message)
        return next(iter(self._contexts.values()))

    def _context_for(self, num_sequences: int, length: int, flash_attention: bool) -> Context:
        if self._shape != (num_sequences, length):
            for context in self._contexts.values():
                context.close()
            self._shape = (num_sequences, length)
            self._contexts = {}
            self._drawn = {}
        if flash_attention not in self._contexts:
            self._contexts[flash_attention] = Context(
                self._loaded(),
                num_sequences=num_sequences,
                length=length,
                threads=self._threads,
                flash_attention=flash_attention,
            )
        return self._contexts[flash_attention]


if __name__ == "__main__":
    serve(LlamaCpp())
