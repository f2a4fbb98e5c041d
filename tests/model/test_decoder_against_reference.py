"""The decoder on the CPU against the float64 oracle, over tiny models of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_steps import teacher_forced

import reference
from reference.blocks import FORMATS
from reference.decoder import ReferenceDecoder, kl_divergences
from reference.peer_cases import CASES, QUANTIZED, QUANTIZED_SEED, prompt
from reference.tiny_models import ROPE_SCALINGS, write_tiny_model

PEER = json.loads(Path(reference.__file__).with_name("peer_logits.json").read_text())
ARCHITECTURES = ("llama", "qwen2", "qwen3")
SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mha": ("llama", "Q8_0", {"num_kv_heads": 4}),
    "mqa-head-128": ("qwen3", "Q8_0", {"num_kv_heads": 1, "head_dim": 128}),
    "head-16": ("qwen2", "Q8_0", {"head_dim": 16}),
    "head-24": ("llama", "F16", {"head_dim": 24}),
    "six-heads-on-two": ("qwen3", "Q4_0", {"num_heads": 6, "head_dim": 32}),
    "three-layers-tied": ("llama", "Q5_1", {"num_layers": 3, "tied_output": True}),
    "biases": ("llama", "Q4_1", {"attention_bias": True}),
    "experts": ("llama", "Q8_0", {"num_experts": 4}),
    "experts-q4-k-m": ("llama", "Q4_K_M", {"num_experts": 4}),
    "one-expert-of-three": ("llama", "F32", {"num_experts": 3, "num_experts_used": 1}),
    "every-expert": ("llama", "MXFP4", {"num_experts": 4, "num_experts_used": 4}),
    "mixture": ("llama", "Q4_K_M", {}),
    "mixture-with-stand-ins": ("qwen2", "Q4_K_M", {"feed_forward": 352}),
    "sentencepiece": ("llama", "IQ4_NL", {"vocabulary": "spm", "vocab_size": 511}),
}


def float32_bound(oracle: ReferenceDecoder, logits: np.ndarray) -> float:
    """How far float32 arithmetic may move a logit.

    A sum of n float32 products is off by about sqrt(n) u of its size, u = 2^-24, whatever the
    order. A logit passes through five such stages a layer and one in the head, each of which
    adds its error to a stream that norms keep at one size. Eight times under worst cases, it
    is five to twenty times what is seen.
    """
    row = max(tensor.shape[-1] for tensor in oracle.tensors.values())
    stages = 5 * oracle.num_layers + 1
    return float(stages * np.sqrt(row) * 2.0**-24 * np.abs(logits).max())


def assert_matches(path: Path, prompt_length: int = 96, **options: Any) -> None:
    oracle = ReferenceDecoder(path)
    ids = prompt(len(oracle.tensors["token_embd.weight"]), prompt_length)
    expected = oracle.logits(ids)
    logits = teacher_forced(path, ids, activations="float", kv_dtype="f32", **options)

    assert logits.dtype == np.float32
    assert logits.shape == expected.shape
    bound = float32_bound(oracle, expected)
    assert np.abs(logits - expected).max() < bound
    best_two = np.sort(expected, axis=-1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 2 * bound
    assert clear.sum() > 0.9 * len(ids)
    np.testing.assert_array_equal(logits.argmax(-1)[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_of_every_architecture_and_format(
    tmp_path: Path, architecture: str, weight_format: str
) -> None:
    assert_matches(write_tiny_model(tmp_path / "m.gguf", architecture, weight_format, seed=4))


@pytest.mark.parametrize(
    ("architecture", "scaling"),
    [
        (architecture, scaling)
        for architecture in ARCHITECTURES
        for scaling in ROPE_SCALINGS
        if scaling != "llama3" or architecture == "llama"  # the tensor is llama's alone
    ],
)
def test_logits_of_every_rope_scaling(tmp_path: Path, architecture: str, scaling: str) -> None:
    path = write_tiny_model(
        tmp_path / "m.gguf", architecture, "F32", rope_scaling=scaling, head_dim=32
    )
    assert_matches(path)


@pytest.mark.parametrize("case", sorted(CASES.keys() - {c for c in CASES if c[:5] == "llama"}))
def test_logits_of_every_case_that_llama_cpp_was_asked(tmp_path: Path, case: str) -> None:
    architecture, knobs = CASES[case]
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "Q8_0", **knobs)
    assert_matches(path, step_sizes=[70, 1, 25])


def test_experts_of_phimoe_are_weighed_as_published(tmp_path: Path) -> None:
    """Of these tokens, some have a second expert that comes close to the first."""
    for seed, used in ((0, 2), (1, 2), (2, 1), (3, 3)):
        path = tmp_path / f"{seed}.gguf"
        write_tiny_model(path, "phimoe", "Q8_0", seed=seed, num_experts_used=used)
        assert_matches(path, step_sizes=[70, 1, 25])


@pytest.mark.parametrize("architecture", ["gpt-oss", "gemma2", "cohere2", "gpt2", "deepseek2"])
def test_default_activations_stay_close_in_every_kind_of_network(
    tmp_path: Path, architecture: str
) -> None:
    weight_format = "MXFP4" if architecture == "gpt-oss" else "Q4_0"
    path = write_tiny_model(tmp_path / "m.gguf", architecture, weight_format, seed=1)
    ids = prompt(515)
    divergence = kl_divergences(ReferenceDecoder(path).logits(ids), teacher_forced(path, ids))
    assert np.median(divergence) < 5e-3


def test_layers_that_draft_tokens_are_not_run(tmp_path: Path) -> None:
    keys = {"nextn_predict_layers": 1}
    drafting = write_tiny_model(tmp_path / "d.gguf", "glm4moe", "F32", num_layers=4, keys=keys)
    plain = write_tiny_model(tmp_path / "p.gguf", "glm4moe", "F32", num_layers=3)
    ids = prompt(515, 20)
    np.testing.assert_array_equal(teacher_forced(drafting, ids), teacher_forced(plain, ids))


@pytest.mark.parametrize("window", [1, 64, 65, 1100])
def test_a_window_ends_where_the_architecture_says(tmp_path: Path, window: int) -> None:
    """Around the tiles of 64 and ranges of 1,024 positions in which attention is computed; decoding
    single tokens and a prompt that is cut find the same positions."""
    path = write_tiny_model(
        tmp_path / "m.gguf",
        "gemma2",
        "F32",
        vocab_size=320,
        context_length=2048,
        keys={"attention.sliding_window": window},
    )
    assert_matches(path, prompt_length=1300, step_sizes=[700, 400, 197, 1, 1, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_every_shape(tmp_path: Path, shape: str) -> None:
    architecture, weight_format, knobs = SHAPES[shape]
    assert_matches(write_tiny_model(tmp_path / "m.gguf", architecture, weight_format, **knobs))


@pytest.mark.parametrize("step_sizes", [[96], [1] * 96, [1, 31, 63, 1], [95, 1]], ids=str)
@pytest.mark.parametrize("weight_format", ["F16", "Q4_K_M"])
def test_logits_do_not_depend_on_how_the_prompt_is_cut(
    tmp_path: Path, weight_format: str, step_sizes: list[int]
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "qwen3", weight_format, seed=7)
    assert_matches(path, step_sizes=step_sizes)


def test_logits_of_a_prompt_of_seven_hundred_tokens(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", "F32", context_length=1024)
    assert_matches(path, prompt_length=700)


@pytest.mark.parametrize("weight_format", QUANTIZED)
def test_quantized_activations_are_as_close_as_llama_cpps(
    tmp_path: Path, weight_format: str
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "llama", weight_format, seed=QUANTIZED_SEED)
    oracle = ReferenceDecoder(path)
    ids = prompt(515)
    logits = teacher_forced(path, ids, kv_dtype="f32")

    divergence = kl_divergences(oracle.logits(ids), logits).mean()
    # Both round activations to 8 bits a block. The two roundings are not the same everywhere,
    # so the means over 96 positions agree, not the values.
    assert divergence < 1.5 * PEER["mean_kl_from_float64"][weight_format]


# Rounding of a key or value, relative to the largest of its block.
KV_ROUNDING = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-9, "q8_0": 0.5 / 127 + 2.0**-11}


@pytest.mark.parametrize("kv_dtype", KV_ROUNDING)
@pytest.mark.parametrize("block_size", [1, 7, 16, 256])
def test_logits_do_not_depend_on_how_the_cache_is_paged(
    tmp_path: Path, block_size: int, kv_dtype: str
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "qwen3", "F16", seed=5, head_dim=32)
    oracle = ReferenceDecoder(path)
    ids = prompt(515)
    logits = teacher_forced(
        path, ids, activations="float", kv_dtype=kv_dtype, block_size=block_size
    )

    expected = oracle.logits(ids)
    bound = float32_bound(oracle, expected)
    bound += 2 * oracle.num_layers * KV_ROUNDING[kv_dtype] * np.abs(expected).max()
    assert np.abs(logits - expected).max() < bound
