"""ROCmForge as a worker: rates as `rocmforge bench` takes them, the rest through `LLM`."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from rocmforge import LLM, SamplingParams
from rocmforge.cli.bench_runs import Bench, Case
from rocmforge.engine.config import EngineConfig
from rocmforge.model.loader import load_model
from side_by_side.build import rocmforge_build
from side_by_side.worker import floats_as_text, peak_rss_bytes, serve


class RocmForge:
    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._bench: Bench | None = None
        self._llm: LLM | None = None

    def describe(self) -> dict[str, Any]:
        return rocmforge_build()

    def load(
        self, path: str, threads: int, max_sequences: int, max_length: int, cache_tokens: int
    ) -> dict[str, Any]:
        config = EngineConfig(
            device="cpu", threads=threads, max_model_len=max_length, max_num_seqs=max_sequences
        )
        num_blocks = -(-cache_tokens // config.block_size)
        options = dataclasses.replace(config.load_options(), num_blocks=num_blocks)
        model = load_model(path, options)
        self._bench = Bench(model, config.scheduler_config(model.decoder.max_num_tokens))
        decoder = model.decoder
        return {
            "load_s": model.load_s,
            "weight_bytes": decoder.weight_bytes,
            "kv_bytes_per_token": decoder.kv_bytes / (decoder.num_blocks * decoder.block_size),
        }

    def run(self, num_sequences: int, prompt: int, output: int) -> dict[str, Any]:
        """Tokens per second of a prompt, or of decoding where `output` is not 0."""
        if self._bench is None:
            message = "no model is loaded"
            raise RuntimeError(message)
        case = Case("", num_sequences, prompt, output)
        bytes_per_token = self._bench.bytes_per_token(case)
        return {"tokens_per_s": self._bench.rate(case), "bytes_per_token": bytes_per_token}

    def first_token(
        self, path: str, threads: int, started: float, text: str, context: int
    ) -> dict[str, Any]:
        """Loads and draws one token, with seconds since now and since `started`, monotonic."""
        imported = time.monotonic()
        self._llm = LLM(path, device="cpu", threads=threads, max_model_len=context, max_num_seqs=1)
        self._generate(text, 1)
        now = time.monotonic()
        return {"load_to_first_token_s": now - imported, "process_to_first_token_s": now - started}

    def memory(self, prompt: int, output: int) -> dict[str, Any]:
        """Peak memory after a prompt and some decoding."""
        tokens = self._random.integers(0, 1000, prompt).tolist()
        self._generate(tokens, output + 1)
        return {"peak_rss_bytes": peak_rss_bytes()}

    def logits(self, prompt: list[int], num_output: int) -> dict[str, Any]:
        """Logits after the prompt, and the tokens drawn greedily from there on."""
        output = self._generate(prompt, num_output)
        row = self._loaded().logits(prompt)[-1]
        return {"logits": floats_as_text(row.astype("<f4").tobytes()), "token_ids": output}

    def _generate(self, prompt: str | list[int], num_tokens: int) -> list[int]:
        params = SamplingParams(temperature=0.0, max_tokens=num_tokens, ignore_eos=True)
        output = self._loaded().generate([prompt], params)[0]
        if output.error is not None:
            raise output.error
        return list(output.token_ids)

    def _loaded(self) -> LLM:
        if self._llm is None:
            message = "first_token() loads the model"
            raise RuntimeError(message)
        return self._llm


if __name__ == "__main__":
    serve(RocmForge())
