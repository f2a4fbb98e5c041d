"""Hyper-parameters read from metadata: values, defaults, inference. Refusals of wrong values are
in the catalogue of tests/gguf."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gguf_bytes.tiny import FFN, HEAD_DIM, HIDDEN, VOCAB, f32_tensor, tiny_model
from gguf_bytes.writer import F32, U32, U64, GGUFBytes, array, scalar, string
from reference.facts import FACTS
from reference.tiny_models import write_tiny_model
from reference.tiny_traits import TRAITS
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig, RopeConfig, RopeScaling, check_tensors

Configure = Callable[[GGUFBytes], ModelConfig]


def config_of(path: Path) -> ModelConfig:
    with GGUFFile.open(path) as file:
        check_tensors(file, config := ModelConfig.from_gguf(file))
        return config


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    def configured(model: GGUFBytes) -> ModelConfig:
        path = tmp_path / "model.gguf"
        path.write_bytes(model.build())
        with GGUFFile.open(path) as file:
            return ModelConfig.from_gguf(file)

    return configured


def test_every_field_comes_from_its_key(configure: Configure) -> None:
    model = tiny_model("llama", layers=2)
    numbers = {
        "context_length": 4096,
        "embedding_length": 96,
        "feed_forward_length": 160,
        "attention.head_count": 6,
        "attention.head_count_kv": 3,
        "attention.key_length": 24,
        "attention.value_length": 20,
        "rope.dimension_count": 12,
        "rope.scaling.original_context_length": 1024,
    }
    floats = {
        "attention.layer_norm_rms_epsilon": 0.25,
        "rope.freq_base": 500000.0,
        "rope.scaling.factor": 8.0,
        "rope.scaling.attn_factor": 0.75,
        "rope.scaling.yarn_beta_fast": 24.0,
        "rope.scaling.yarn_beta_slow": 2.0,
        "rope.scaling.low_freq_factor": 1.5,
        "rope.scaling.high_freq_factor": 3.5,
    }
    for name, number in numbers.items():
        model.set(f"llama.{name}", scalar(U32, number))
    for name, number in floats.items():
        model.set(f"llama.{name}", scalar(F32, number))
    model.set("llama.rope.scaling.type", string("yarn"))
    model.set("general.name", string("Tiny"))
    assert configure(model) == ModelConfig(
        architecture="llama",
        name="Tiny",
        num_layers=2,
        hidden_size=96,
        num_heads=6,
        num_kv_heads=3,
        head_dim=24,
        value_dim=20,
        ffn_size=160,
        vocab_size=VOCAB,
        context_length=4096,
        norm_eps=0.25,
        attention_scale=1 / math.sqrt(24),
        rope=RopeConfig(
            rotary_dim=12,
            interleaved=True,
            base=500000.0,
            scaling=RopeScaling.YARN,
            factor=8.0,
            original_context_length=1024,
            attn_factor=0.75,
            beta_fast=24.0,
            beta_slow=2.0,
            low_freq_factor=1.5,
            high_freq_factor=3.5,
            has_factors=False,
        ),
        num_experts=0,
        num_experts_used=0,
        expert_ffn_size=0,
        tied_output=True,
        qkv_bias=False,
        qk_norm=False,
    )


def test_what_a_file_leaves_out_is_inferred(configure: Configure) -> None:
    model = tiny_model()
    for name in ("vocab_size", "rope.dimension_count", "rope.freq_base"):
        model.drop(f"llama.{name}")
    model.drop("llama.attention.head_count_kv").drop("tokenizer.ggml.tokens")
    config = configure(model)
    assert config.vocab_size == VOCAB
    assert config.num_kv_heads == config.num_heads == 4
    assert config.head_dim == config.value_dim == config.rope.rotary_dim == HEAD_DIM
    assert config.rope == RopeConfig(
        rotary_dim=HEAD_DIM, interleaved=True, base=10000.0, original_context_length=64
    )
    assert config.name == "model"


def test_value_length_follows_key_length(configure: Configure) -> None:
    config = configure(tiny_model().set("llama.attention.key_length", scalar(U32, 64)))
    assert (config.head_dim, config.value_dim) == (64, 64)
    assert config.attention_scale == 0.125


@pytest.mark.parametrize("architecture", TRAITS)
def test_architecture_decides_on_rope_layout_bias_and_norm(
    tmp_path: Path, architecture: str
) -> None:
    traits = TRAITS[architecture]
    config = config_of(write_tiny_model(tmp_path / "m.gguf", architecture, "F32"))
    assert config.architecture == architecture
    assert config.rope.interleaved == FACTS[architecture].interleaved
    assert config.qkv_bias == traits.attention_bias
    assert config.qk_norm == (traits.qk_norm is not None)
    assert config.fused_qkv == traits.fused_qkv
    assert config.tied_output == traits.tied_output
    assert config.num_experts == traits.num_experts


@pytest.mark.parametrize(("num_layers", "width"), [(62, 16), (61, 32)])
def test_the_largest_gemma_3_scales_scores_by_the_width_of_a_head_in_the_stream(
    tmp_path: Path, num_layers: int, width: int
) -> None:
    path = tmp_path / "m.gguf"
    write_tiny_model(path, "gemma3", "F32", num_layers=num_layers, head_dim=32, vocab_size=320)
    assert config_of(path).attention_scale == pytest.approx(width**-0.5)


def test_name_of_a_hostile_file_is_short_and_printable(configure: Configure) -> None:
    name = configure(tiny_model().set("general.name", string("\x1b[31mred\n" + "x" * 10**6))).name
    assert name.startswith("\ufffd[31mred\ufffdxxx")
    assert len(name) == 256


def test_output_matrix_of_its_own_unties_it(configure: Configure) -> None:
    model = tiny_model()
    assert configure(model).tied_output
    model.tensors.append(f32_tensor("output.weight", HIDDEN, VOCAB))
    assert not configure(model).tied_output


def test_experts_have_the_ffn_size_unless_they_say_otherwise(configure: Configure) -> None:
    config = configure(tiny_model(experts=4))
    assert (config.num_experts, config.num_experts_used, config.expert_ffn_size) == (4, 2, FFN)
    model = tiny_model(experts=4).set("llama.expert_feed_forward_length", scalar(U32, 16))
    assert (configure(model).expert_ffn_size, configure(model).ffn_size) == (16, FFN)


def test_zero_experts_are_a_dense_model(configure: Configure) -> None:
    assert configure(tiny_model().set("llama.expert_count", scalar(U32, 0))).num_experts == 0


def test_numbers_may_be_wider_than_usual_and_repeat_for_each_layer(configure: Configure) -> None:
    model = tiny_model("llama", layers=3).set("llama.embedding_length", scalar(U64, HIDDEN))
    for name, number in (("attention.head_count", 4), ("attention.head_count_kv", 2)):
        model.set(f"llama.{name}", array(U32, [number] * 3))
    model.set("llama.feed_forward_length", array(U32, [FFN] * 3))
    assert configure(model) == configure(tiny_model("llama", layers=3))


@pytest.mark.parametrize(
    ("kind", "factor", "scaling"),
    [
        (None, None, RopeScaling.NONE),
        (None, 4.0, RopeScaling.LINEAR),
        ("linear", 1.0, RopeScaling.NONE),
        ("none", 4.0, RopeScaling.NONE),
        ("yarn", 4.0, RopeScaling.YARN),
        ("llama3", 4.0, RopeScaling.LLAMA3),
    ],
)
def test_scaling_kind_is_linear_unless_named(
    configure: Configure, kind: str | None, factor: float | None, scaling: RopeScaling
) -> None:
    model = tiny_model()
    if kind is not None:
        model.set("llama.rope.scaling.type", string(kind))
    if factor is not None:
        model.set("llama.rope.scaling.factor", scalar(F32, factor))
    assert configure(model).rope.scaling is scaling


def test_old_key_of_the_linear_factor_counts_where_the_new_is_absent(configure: Configure) -> None:
    model = tiny_model().set("llama.rope.scale_linear", scalar(F32, 2.0))
    assert configure(model).rope.factor == 2.0
    model.set("llama.rope.scaling.factor", scalar(F32, 8.0))
    assert configure(model).rope.factor == 8.0


def test_original_context_is_the_context_unless_given(configure: Configure) -> None:
    model = tiny_model().set("llama.context_length", scalar(U32, 2048))
    assert configure(model).rope.original_context_length == 2048


def test_configuration_is_immutable_plain_data(configure: Configure) -> None:
    config = configure(tiny_model())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_layers = 2  # type: ignore[misc]
    assert dataclasses.asdict(config)["rope"]["base"] == 10000.0


def test_vocabulary_only_file_is_told_from_a_damaged_model(
    configure: Configure,
) -> None:
    model = tiny_model()
    model.tensors.clear()
    with pytest.raises(ModelFileError, match="a vocabulary only"):
        configure(model)


def test_error_names_key_and_offset(configure: Configure) -> None:
    model = tiny_model().set("llama.attention.head_count", scalar(U32, 0))
    with pytest.raises(ModelFileError) as caught:
        configure(model)
    assert caught.value.key == "llama.attention.head_count"
    where = model.build().index(b"attention.head_count") + len("attention.head_count")
    assert caught.value.offset == where


def test_unknown_architecture_lists_what_works(configure: Configure) -> None:
    with pytest.raises(UnsupportedError, match=r"'mamba' .* llama, qwen2, qwen3"):
        configure(tiny_model().set("general.architecture", string("mamba")))


def test_real_models_are_understood(testdata: Path) -> None:
    models = sorted((testdata / "models").glob("*.gguf"))
    assert models
    for path in models:
        with GGUFFile.open(path) as file:
            config = ModelConfig.from_gguf(file)
            assert check_tensors(file, config) == []
        sizes = (config.hidden_size, config.num_layers, config.num_heads, config.num_kv_heads)
        assert sizes == ((64, 5, 8, 4) if "260K" in path.name else (128, 5, 8, 4))


def test_deepseek_files_without_a_latent_cache_are_to_be_converted_again(
    configure: Configure,
) -> None:
    model = tiny_model("deepseek2", experts=4)
    model.set("deepseek2.expert_feed_forward_length", scalar(U32, 16))
    with pytest.raises(UnsupportedError, match="convert the model again"):
        configure(model)


def test_longrope_needs_its_tensors(configure: Configure) -> None:
    model = tiny_model().set("llama.rope.scaling.type", string("longrope"))
    with pytest.raises(UnsupportedError, match="'longrope' is not supported without"):
        configure(model)


def test_position_embeddings_have_to_reach_the_context(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_tiny_model(path, "gpt2", "F32", keys={"context_length": 300})
    with pytest.raises(ModelFileError, match="no position embeddings for 300 positions"):
        config_of(path)
