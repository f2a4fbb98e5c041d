"""Loading: devices that are not there, options out of range, the embedded model."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from rocmforge import _native
from rocmforge.errors import InvalidArgumentError, OutOfMemoryError, UnsupportedError
from rocmforge.model import execution_plan
from rocmforge.model.device_choice import choose_device
from rocmforge.model.gpu_devices import emulated_gpus
from rocmforge.model.loader import load_model
from rocmforge.model.options import LoadOptions


def one_sequence(ids: list[int], block_size: int, **changes: object) -> SimpleNamespace:
    """A batch of one sequence in blocks 0, 1, ..., logits for every token."""
    n = len(ids)
    arrays = {
        "token_ids": ids,
        "positions": range(n),
        "slot_mapping": range(n),
        "query_start_loc": [0, n],
        "seq_lens": [n],
        "block_tables": [range(-(-n // block_size))],
        "logit_rows": range(n),
    } | changes
    return SimpleNamespace(**{k: np.array(list(v), np.int32) for k, v in arrays.items()})  # type: ignore[call-overload]


def test_embedded_model_loads_in_place() -> None:
    model = load_model(None, LoadOptions(threads=1))
    assert model.config.architecture == "llama"
    assert model.decoder.vocab_size == 8192
    assert {p.device for p in model.placement} == {"cpu"}
    assert [p.part for p in model.placement][1] == "layer 0"
    assert model.load_s < 5


def test_weights_outlive_the_python_objects_of_the_file() -> None:
    decoder = load_model(None, LoadOptions(threads=1)).decoder
    gc.collect()
    handle = decoder.enqueue(one_sequence([0, 5, 7], 16), None)
    assert np.isfinite(decoder.logits(handle)).all()


@pytest.mark.parametrize("device", ["hip:99", "cuda:99", "host:99"])
def test_a_gpu_that_is_not_there_is_an_error_not_a_fallback(device: str) -> None:
    with pytest.raises(UnsupportedError, match=f"device {device}: no usable GPU"):
        load_model(None, LoadOptions(device=device))


def test_a_model_on_the_emulation_is_placed_there() -> None:
    model = load_model(None, LoadOptions(device="host:1", threads=1, max_num_seqs=1))
    assert {p.device for p in model.placement} == {"host:1"}
    assert [p.part for p in model.placement[-2:]] == ["sampling", "long products"]


@pytest.fixture
def gpu_that_fails(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`auto` finds a GPU that says it has memory, and has next to none."""
    gpu = replace(emulated_gpus()[0], name="hip:0")
    choose = partial(choose_device, find=lambda: [gpu])
    monkeypatch.setattr(execution_plan, "choose_device", choose)
    _native.gpu.emulate_fault("memory_bytes", 1 << 20)
    yield
    _native.gpu.emulate_fault("memory_bytes", 0)


@pytest.mark.usefixtures("gpu_that_fails")
def test_auto_falls_back_to_the_cpu_with_the_reason() -> None:
    model = load_model(None, LoadOptions(threads=1, max_num_seqs=1))
    (reason,) = {p.reason for p in model.placement}
    assert {p.device for p in model.placement} == {"cpu"}
    assert re.match(r"hip:0: cannot allocate \d+ bytes .*weights take \d+ bytes", reason)
    assert model.plan.num_fallbacks == 12 + 3
    _native.gpu.emulate_fault("memory_bytes", 0)
    again = load_model(None, LoadOptions(threads=1, max_num_seqs=1))
    assert again.placement[0].device == "hip:0"
    assert again.plan.num_fallbacks == 0


@pytest.mark.usefixtures("gpu_that_fails")
def test_auto_falls_back_from_a_gpu_that_lacks_a_part_of_the_model(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "gemma2", "Q8_0")
    model = load_model(path, LoadOptions(threads=1, max_num_seqs=1))
    (reason,) = {p.reason for p in model.placement}
    assert {p.device for p in model.placement} == {"cpu"}
    assert reason == (
        "hip:0: this model has another activation than SiLU, for which there is no GPU kernel"
    )


@pytest.mark.usefixtures("gpu_that_fails")
@pytest.mark.parametrize("asked", [{"require_gpu": True}, {"device": "gpu"}, {"gpu_layers": 12}])
def test_a_gpu_that_was_asked_for_and_fails_is_an_error(asked: dict[str, object]) -> None:
    with pytest.raises(OutOfMemoryError, match=r"cannot allocate \d+ .*KV cache \d+"):
        load_model(None, LoadOptions(max_num_seqs=1, **asked))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"},
        {"device": "hip:x"},
        {"threads": 0},
        {"threads": 10**6},
        {"activations": "q8"},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(InvalidArgumentError, match=f"{name} is .*{value}"):
        load_model(None, LoadOptions(**wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": [0, 8192, 1]}, "token id 8192"),
        ({"token_ids": [0, -1, 1]}, "token id -1"),
        ({"slot_mapping": [0, 1, 10**6]}, "slot 1000000"),
        ({"slot_mapping": [0, 1]}, "same length"),
        ({"block_tables": [[99999]]}, "block id 99999"),
        ({"block_tables": [[]]}, "block table is shorter"),
        ({"seq_lens": [2]}, "position 2"),
        ({"seq_lens": [99999]}, "sequence length 99999"),
        ({"positions": [0, 1, -1]}, "position -1"),
        ({"query_start_loc": [0, 2]}, "query_start_loc"),
        ({"query_start_loc": [0]}, "query_start_loc"),
        ({"logit_rows": [3]}, "logit row 3"),
        ({"token_ids": [1] * 600}, "token count 600"),
    ],
)
def test_a_batch_that_points_outside_is_refused_before_anything_runs(
    changes: dict[str, object], message: str
) -> None:
    decoder = load_model(None, LoadOptions(threads=1, max_num_seqs=1)).decoder
    with pytest.raises(InvalidArgumentError, match=message):
        decoder.enqueue(one_sequence([0, 5, 7], 16, **changes), None)
    handle = decoder.enqueue(one_sequence([0, 5, 7], 16), None)
    assert decoder.logits(handle).shape == (3, 8192)


def test_a_handle_of_an_older_step_is_refused() -> None:
    decoder = load_model(None, LoadOptions(threads=1, max_num_seqs=1)).decoder
    old = decoder.enqueue(one_sequence([0, 5], 16), None)
    decoder.enqueue(one_sequence([0, 6], 16), None)
    with pytest.raises(InvalidArgumentError, match="handle"):
        decoder.logits(old)
