"""The random models that benchmarks run on are as real files are, and run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, quants

from random_models.blocks import FORMATS, random_weights, weight_bytes
from random_models.shapes import SHAPES, Shape
from random_models.tensor_types import MIXTURES
from random_models.writer import model_tensors, write_random_model
from rocmforge import LLM, _native

SMALL = dataclasses.replace(
    SHAPES["llama-3.2-1b"],
    num_layers=2,
    hidden=256,
    ffn=512,
    num_heads=8,
    num_kv_heads=2,
    vocab_size=600,
    num_special_tokens=8,
    context_length=128,
)
# As in Qwen2.5-0.5B (896 and 4864), some rows are no multiple of 256 weights and some are.
SMALL_QWEN = dataclasses.replace(
    SHAPES["qwen2.5-0.5b"],
    num_layers=2,
    hidden=224,
    ffn=768,
    num_heads=7,
    num_kv_heads=1,
    vocab_size=600,
    num_special_tokens=8,
    context_length=128,
)
# Counts of the published files, and of llama-quantize on the same shapes.
PUBLISHED = {
    ("llama-3.2-1b", "Q4_0"): {"F32": 34, "Q4_0": 112, "Q6_K": 1},
    ("llama-3.2-1b", "Q8_0"): {"F32": 34, "Q8_0": 113},
    ("llama-3.2-1b", "Q4_K_M"): {"F32": 34, "Q4_K": 96, "Q6_K": 17},
    ("qwen2.5-0.5b", "Q4_0"): {"F32": 121, "Q4_0": 168, "Q8_0": 1},
    ("qwen2.5-0.5b", "Q4_K_M"): {"F32": 121, "Q5_0": 132, "Q8_0": 13, "Q4_K": 12, "Q6_K": 12},
}


@pytest.mark.parametrize(("shape", "mixture"), PUBLISHED)
def test_tensors_have_the_types_of_published_files(shape: str, mixture: str) -> None:
    tensors = list(model_tensors(SHAPES[shape], mixture, 0))
    assert Counter(tensor.format for tensor in tensors) == PUBLISHED[shape, mixture]


def test_q4_k_m_spends_its_bits_on_the_layers_that_llama_quantize_chooses() -> None:
    tensors = model_tensors(SHAPES["llama-3.2-1b"], "Q4_K_M", 0)
    better = [tensor.name for tensor in tensors if tensor.format == "Q6_K"]
    layers = (0, 1, 4, 7, 10, 13, 14, 15)
    expected = [f"blk.{i}.{part}.weight" for i in layers for part in ("attn_v", "ffn_down")]
    assert better == ["token_embd.weight", *expected]


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("shape", [SMALL, SMALL_QWEN], ids=["llama", "qwen2"])
def test_a_model_of_every_format_gives_logits_of_normal_size(
    shape: Shape, mixture: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path, shape, mixture)
    with LLM(path, threads=1) as model:
        logits = model.logits([1, 300, 599, 42])
    assert logits.shape == (4, 600)
    assert 2 < logits.std() < 4.5


def test_text_goes_through_the_vocabulary_and_back(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path, SMALL, "Q4_0")
    text = "Grüße, 42 words of\ntext"
    with LLM(path, threads=1) as model:
        assert model.tokenizer.decode(model.tokenizer.encode(text)).strip() == text


@pytest.mark.parametrize("weight_format", FORMATS)
def test_weights_have_the_spread_asked_for_around_zero(weight_format: str) -> None:
    count = 1 << 18
    chunks = list(random_weights("a", 0, weight_format, count, 0.02))
    data = np.concatenate([chunk.reshape(-1) for chunk in chunks])
    assert data.nbytes == weight_bytes(weight_format, count)
    weights = quants.dequantize(data, GGMLQuantizationType[weight_format])
    assert weights.std() == pytest.approx(0.02, rel=0.04)
    assert abs(weights.mean()) < 0.02 / 20


def test_every_format_of_the_engine_is_written() -> None:
    assert set(FORMATS) == set(_native.FORMATS)
    assert {usual for usual, _ in MIXTURES.values()} == set(_native.FORMATS)


def test_a_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for path, seed in zip(files, (3, 3, 4), strict=True):
        write_random_model(path, SMALL, "Q4_K_M", seed)
    first, same, other = (path.read_bytes() for path in files)
    assert first == same
    assert first != other


def test_chunks_make_up_one_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random_models.blocks.CHUNK_BYTES", 1000)
    path = tmp_path / "model.gguf"
    write_random_model(path, SMALL, "Q6_K")
    for tensor in GGUFReader(path).tensors:
        if len(tensor.shape) == 2:
            rows = quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.unique(rows, axis=0).shape == rows.shape, tensor.name
