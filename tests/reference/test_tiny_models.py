"""The writers of tiny models: same bytes for the same arguments, sane weights, every format."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from reference.blocks import FORMATS, decode
from reference.decoder import ReferenceDecoder
from reference.tiny_models import write_tiny_model


@pytest.mark.parametrize("weight_format", FORMATS)
def test_weights_of_every_format_are_finite_and_centred(tmp_path: Path, weight_format: str) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", weight_format)

    matrices = [t for t in GGUFReader(path).tensors if len(t.shape) == 2]

    assert {t.tensor_type.name for t in matrices} == {weight_format}
    for tensor in matrices:
        weights = decode(tensor.data, tensor.tensor_type)
        gain = 3.0 if "blk" not in tensor.name else 1.0
        spread = weights.std() * np.sqrt(weights.shape[-1])
        assert 0.9 * gain < spread < 1.1 * gain, tensor.name
        # IQ4_NL's table of values is itself off centre, by 0.16 of its spread.
        assert abs(weights.mean()) < 0.25 * weights.std(), tensor.name


@pytest.mark.parametrize("weight_format", FORMATS)
def test_logits_spread_like_a_models(tmp_path: Path, weight_format: str) -> None:
    logits = ReferenceDecoder(write_tiny_model(tmp_path / "m.gguf", "llama", weight_format)).logits(
        [256, 5, 99, 300]
    )
    assert 2.0 < logits.std() < 4.5


def test_the_same_arguments_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    def content(name: str, **knobs: int) -> bytes:
        return write_tiny_model(tmp_path / name, "qwen2", "Q4_K", **knobs).read_bytes()

    assert content("a", seed=1) == content("b", seed=1)
    assert content("a", seed=1) != content("c", seed=2)


def test_the_mixture_has_the_formats_of_q4_k_m(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_K_M", feed_forward=352)

    formats = {t.name: t.tensor_type.name for t in GGUFReader(path).tensors}

    assert {formats[f"{name}.weight"] for name in ("token_embd", "blk.0.attn_v")} == {"Q6_K"}
    assert {formats[f"blk.0.{name}.weight"] for name in ("attn_q", "ffn_up")} == {"Q4_K"}
    assert formats["blk.0.ffn_down.weight"] == "Q8_0"  # rows of 352 are no multiple of 256
    assert formats["blk.0.ffn_norm.weight"] == "F32"


@pytest.mark.parametrize("vocabulary", ["llama-bpe", "qwen2", "spm", "wordpiece"])
@pytest.mark.parametrize("size", [320, 515, 700])
def test_a_vocabulary_has_its_size_and_no_token_twice(
    tmp_path: Path, vocabulary: str, size: int
) -> None:
    path = write_tiny_model(
        tmp_path / "m.gguf", "llama", "F32", vocabulary=vocabulary, vocab_size=size
    )
    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()

    assert len(tokens) == len(set(tokens)) == size
    assert len(fields["tokenizer.ggml.token_type"].contents()) == size
    if vocabulary not in ("spm", "wordpiece"):
        for merge in fields["tokenizer.ggml.merges"].contents():
            left, right = merge.split(" ")
            assert {left, right, left + right} <= set(tokens)


def test_a_model_takes_under_fifty_milliseconds(tmp_path: Path) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        write_tiny_model(tmp_path / "m.gguf", "llama", "Q4_K_M")
        return time.perf_counter() - start

    seconds()
    assert min(seconds() for _ in range(5)) < 0.05
