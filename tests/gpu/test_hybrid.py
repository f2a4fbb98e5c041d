"""A model whose layers are on a GPU and on the CPU gives the logits of the CPU alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from decoder_steps import teacher_forced
from invariance import Circumstance, answers, fixed_requests

from reference.decoder import kl_divergences
from reference.tiny_models import write_tiny_model
from rocmforge import LLM, DeviceError, OutOfMemoryError, SamplingParams, _native
from rocmforge.model.check import check_model
from rocmforge.model.gpu_devices import SHARE
from rocmforge.model.gpu_memory import step_bytes
from rocmforge.model.loader import embedded_model, load_model
from rocmforge.model.options import LoadOptions

DEVICES = tuple(os.environ.get("ROCMFORGE_TEST_DEVICES", "host:0 host:1").split())
FLOAT_KL = 1e-4  # with float activations on both sides, of every row
FAMILY_KL = 1e-3  # of a trained model with 8-bit activations to float ones, mean
NUM_LAYERS = 4
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"architecture": "llama", "weight_format": "Q4_K_M"},
    "tied": {"architecture": "qwen2", "weight_format": "Q8_0", "tied_output": True},
    "experts": {"architecture": "llama", "weight_format": "Q4_0", "num_experts": 4},
    # The last of four layers does not rotate: it is another one by its number on the GPU.
    "layers that differ": {"architecture": "smollm3", "weight_format": "Q8_0"},
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    options = MODELS[request.param]
    return write_tiny_model(tmp_path / "m.gguf", num_layers=NUM_LAYERS, **options)


@pytest.fixture
def small_gpu() -> Iterator[None]:
    yield
    _native.gpu.emulate_fault("memory_bytes", 0)
    _native.gpu.emulate_fault("device", 0)


def prompt(count: int, vocab_size: int = 515) -> np.ndarray:
    return np.random.default_rng(count).integers(0, vocab_size, count).astype(np.int32)


def one_token(position: int) -> SimpleNamespace:
    arrays = {
        "token_ids": [position],
        "positions": [position],
        "slot_mapping": [position],
        "query_start_loc": [0, 1],
        "seq_lens": [position + 1],
        "block_tables": [[0, 1]],
        "logit_rows": [0],
    }
    return SimpleNamespace(**{name: np.array(v, np.int32) for name, v in arrays.items()})


@pytest.mark.parametrize("layers", [1, 3])
def test_logits_are_those_of_the_cpu_whatever_is_where(model: Path, layers: int) -> None:
    """Many tokens at once, chunks, single ones that are recorded and replayed."""
    ids, options = prompt(44), {"activations": "float", "kv_dtype": "f32"}
    device = DEVICES[layers % len(DEVICES)]
    wanted = teacher_forced(model, ids, **options)
    steps = {"step_sizes": [33, 6, 1, 1, 1, 1, 1], "device": device, "gpu_layers": layers}
    got = teacher_forced(model, ids, **steps, **options)
    assert np.isfinite(got).all()
    assert kl_divergences(wanted, got).max() < FLOAT_KL
    assert not np.array_equal(wanted, got)  # the GPU had a part in it


def test_the_embedded_model_stays_within_the_bound_of_quantized_activations() -> None:
    ids = prompt(38, 8192)
    wanted = teacher_forced(embedded_model(), ids, activations="float")
    steps = {"step_sizes": [32, 5, 1], "device": DEVICES[0], "gpu_layers": 5}
    got = teacher_forced(embedded_model(), ids, **steps)
    assert kl_divergences(wanted, got).mean() < FAMILY_KL


def test_each_device_has_the_cache_of_its_layers() -> None:
    options = LoadOptions(
        device=DEVICES[0], gpu_layers=3, threads=1, max_num_seqs=1, max_model_len=64
    )
    model = load_model(None, options)
    assert model.decoder.kv_bytes == model.cache.nbytes
    assert model.plan.kv_bytes(DEVICES[0]) == model.cache.nbytes // 4
    assert [p.device for p in model.plan.layers] == ["cpu"] * 9 + [DEVICES[0]] * 3


def test_single_tokens_are_replayed_on_the_gpu_of_a_hybrid(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q8_0", num_layers=NUM_LAYERS)
    options = LoadOptions(device=DEVICES[0], gpu_layers=2, threads=1, max_num_seqs=1)
    decoder = load_model(path, options).decoder
    for position in range(20, 26):
        batch = one_token(position)
        decoder.logits(decoder.enqueue(batch, None))
    assert decoder.num_replays >= 4
    assert decoder.recording_problem is None


def test_random_circumstances_do_not_change_a_bit(tmp_path: Path) -> None:
    """Neighbours, chunks of a prompt, prefix hits, preemption, cancelled strangers."""
    path = write_tiny_model(tmp_path / "m.gguf", "qwen2", "Q8_0", num_layers=NUM_LAYERS)
    options = LoadOptions(deterministic=True, device=DEVICES[0], gpu_layers=2)
    requests = [fixed_requests(500)[i] for i in (0, 2)]
    expected = {}
    for request in requests:
        expected |= answers(path, [request], Circumstance(), options)
    crowded = Circumstance(budget=9, block_size=8, spare_blocks=1, strangers=3, gap=1, repeats=1)
    got = answers(path, requests, crowded, options)
    for request in requests:
        assert got[request.request_id] == expected[request.request_id] * 2, request


@pytest.mark.usefixtures("small_gpu")
def test_a_gpu_that_holds_a_part_of_the_model_gets_that_part() -> None:
    options = {"device": "host:0", "max_num_seqs": 2, "threads": 1}
    report = check_model(embedded_model())
    buffers = step_bytes(report.config, LoadOptions(**options))
    room = int((buffers + report.tensor_bytes // 2) / SHARE)
    _native.gpu.emulate_fault("memory_bytes", room)
    with LLM(**options) as llm:
        layers = [row for row in llm.placement() if row[0].startswith("layer ")]
        on_gpu = [part for part, device, _ in layers if device == "host:0"]
        assert 0 < len(on_gpu) < 12, (len(on_gpu), layers)
        assert llm.device == "cpu+host:0"
        (result,) = llm.generate("Once upon", SamplingParams(temperature=0, max_tokens=4))
        assert result.error is None
    with pytest.raises(OutOfMemoryError, match=f"require_gpu: .* {len(on_gpu)} of 12 layers fit"):
        LLM(require_gpu=True, **options)


@pytest.mark.usefixtures("small_gpu")
@pytest.mark.parametrize("calls", [1, 9, 40])
def test_a_lost_device_ends_requests_with_that_error(calls: int) -> None:
    with LLM(device="host:0", gpu_layers=4, max_num_seqs=2, max_model_len=64) as llm:
        _native.gpu.emulate_fault("device", calls)
        (result,) = llm.generate("Once", SamplingParams(temperature=0, max_tokens=8))
        assert isinstance(result.error, DeviceError)
        assert not llm.stats().healthy
