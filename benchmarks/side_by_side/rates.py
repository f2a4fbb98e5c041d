"""Tokens per second of prompts and of decoding, taken in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocmforge import _native
from side_by_side.client import SETTLING_S, Worker
from side_by_side.hog import first_core, hog
from side_by_side.machine import busy_cores
from side_by_side.statistics import summary

MIN_BANDWIDTH_BYTES = 512 << 20
FLASH_ATTENTION = {"best": (True, False), "on": (True,), "off": (False,)}


@dataclass(frozen=True)
class Test:
    """One line of the result. A hog is another busy process on one of the cores."""

    name: str
    num_sequences: int
    prompt: int
    output: int  # decoded and timed, of each sequence; 0 times the prompt instead
    hog: bool = False

    @property
    def num_tokens(self) -> int:
        """Of a sequence; the token that comes with the prompt is not timed."""
        return self.prompt + self.output + 1


UNDISTURBED = "tg64"
TESTS = {
    test.name: test
    for test in (
        Test("pp512", 1, 512, 0),
        Test(UNDISTURBED, 1, 32, 64),
        Test("tg64@d4096", 1, 4096, 64),
        Test("batch4", 4, 32, 32),
        Test("batch8", 8, 32, 32),
        Test("batch16", 16, 32, 32),
        Test("tg16+hog", 1, 32, 16, hog=True),
    )
}


class Rates:
    """Two loaded workers and the limit of the machine's memory."""

    def __init__(
        self,
        workers: tuple[Worker, Worker],
        path: Path,
        threads: int,
        tests: list[Test],
        flash_attention: str,
        announce: Callable[[str], None],
    ) -> None:
        self._rocmforge, self._llama_cpp = workers
        self._threads = threads
        self._flash_attention = FLASH_ATTENTION[flash_attention]
        self._announce = announce
        announce("loading")
        tests = tests or [TESTS[UNDISTURBED]]  # just for what the model says of itself
        self.model = self._rocmforge.ask(
            "load",
            path=str(path),
            threads=threads,
            max_sequences=max(test.num_sequences for test in tests),
            max_length=max(test.num_tokens for test in tests),
            # A block of 16 tokens may be full to its first only.
            cache_tokens=max(test.num_sequences * (test.num_tokens + 16) for test in tests),
        )
        arguments = self._llama_cpp.engine.load_arguments
        self._llama_cpp.ask("load", path=str(path), threads=threads, **arguments)

    def run(self, test: Test, repetitions: int) -> dict[str, Any]:
        """Both engines and the read bandwidth, in turn, after a warm-up of each engine.

        The warm-up finds out with which attention the peer is faster.
        """
        arguments = {
            "num_sequences": test.num_sequences,
            "prompt": test.prompt,
            "output": test.output,
        }
        self._announce(f"{test.name}: warming up")
        first = self._rocmforge.ask_in_turn("run", **arguments)
        warm = {
            flash: self._llama_cpp.ask_in_turn("run", flash_attention=flash, **arguments)
            for flash in self._flash_attention
        }
        best = max(warm, key=lambda flash: warm[flash]["tokens_per_s"])
        ours, theirs, limits, busy = [], [], [], []
        for i in range(repetitions):
            self._announce(f"{test.name}: {i + 1}/{repetitions}")
            time.sleep(SETTLING_S)
            busy.append(busy_cores())
            with hog(first_core()) if test.hog else nullcontext():
                ours.append(self._rocmforge.ask_in_turn("run", **arguments)["tokens_per_s"])
                answer = self._llama_cpp.ask_in_turn("run", flash_attention=best, **arguments)
                theirs.append(answer["tokens_per_s"])
            limits.append(self._bandwidth())
        return self._result(test, ours, theirs, limits, first["bytes_per_token"]) | {
            "llama_cpp_flash_attention": best,
            "other_busy_cores": summary(busy),
        }

    def _bandwidth(self) -> float:
        size = max(MIN_BANDWIDTH_BYTES, self.model["weight_bytes"])
        return _native.cpu.read_bandwidth(self._threads, size)

    @staticmethod
    def _result(
        test: Test,
        ours: list[float],
        theirs: list[float],
        limits: list[float],
        bytes_per_token: float,
    ) -> dict[str, Any]:
        result: dict[str, Any] = {
            "test": test.name,
            "num_sequences": test.num_sequences,
            "prompt_tokens": test.prompt,
            "output_tokens": test.output,
            "hog": test.hog,
            "unit": "tokens/s",
            "rocmforge": summary(ours),
            "llama_cpp": summary(theirs),
            "read_bandwidth_bytes_per_s": summary(limits),
        }
        medians = {name: result[name]["median"] for name in ("rocmforge", "llama_cpp")}
        result["ratio"] = medians["rocmforge"] / medians["llama_cpp"]
        if test.output:
            limit = result["read_bandwidth_bytes_per_s"]["median"]
            result["bytes_per_token"] = bytes_per_token
            for name, median in medians.items():
                result[name]["fraction_of_read_bandwidth"] = median * bytes_per_token / limit
        return result


def add_undisturbed(results: list[dict[str, Any]]) -> None:
    """Says how much of the rate is left beside a hog, where both were measured."""
    rates = {result["test"]: result for result in results}
    base = rates.get(UNDISTURBED)
    for result in results:
        if result["hog"] and base is not None:
            for name in ("rocmforge", "llama_cpp"):
                share = result[name]["median"] / base[name]["median"]
                result[name]["fraction_of_undisturbed"] = share
