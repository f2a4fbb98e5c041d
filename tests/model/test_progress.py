"""The number by which others see that a step gets on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from decoder_steps import step_of

from rocmforge.model.loader import embedded_model, load_model
from rocmforge.model.options import LoadOptions

NUM_LAYERS, NUM_TOKENS = 12, 256


def seen_during(action: Callable[[], object], progress: Callable[[], int]) -> list[int]:
    """The different values that another thread sees meanwhile, in order."""
    values = [progress()]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            if (value := progress()) != values[-1]:
                values.append(value)
            time.sleep(0.0002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        is_over.set()
        watcher.join()
    return values


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_grows_all_through_a_step_and_stands_still_between_steps(threads: int) -> None:
    options = LoadOptions(
        device="cpu", threads=threads, max_num_seqs=1, max_num_tokens=NUM_TOKENS, block_size=16
    )
    decoder = load_model(embedded_model(), options).decoder
    batch = step_of(range(1, NUM_TOKENS + 1))
    values = seen_during(lambda: decoder.enqueue(batch, None), lambda: decoder.progress)
    assert values == sorted(values)
    # Pieces of stages, seen by a thread that looks now and then.
    assert len(values) > NUM_LAYERS
    assert decoder.progress - values[0] > 5 * NUM_LAYERS
    before = decoder.progress
    time.sleep(0.05)
    assert decoder.progress == before
    decoder.logits(1)
    assert decoder.progress > before
