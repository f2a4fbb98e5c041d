"""Files whose tensors have Hugging Face's names run as those with llama.cpp's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from decoder_steps import hidden_states, teacher_forced

import reference.tiny_models
from gguf_bytes.tiny import f32_tensor, tiny_model
from reference.peer_cases import prompt
from reference.tiny_models import write_tiny_model
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile
from rocmforge.model import check_model

LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "model.layers.{}.input_layernorm",
    "attn_q": "model.layers.{}.self_attn.q_proj",
    "attn_k": "model.layers.{}.self_attn.k_proj",
    "attn_v": "model.layers.{}.self_attn.v_proj",
    "attn_output": "model.layers.{}.self_attn.o_proj",
    "ffn_norm": "model.layers.{}.post_attention_layernorm",
    "ffn_gate": "model.layers.{}.mlp.gate_proj",
    "ffn_up": "model.layers.{}.mlp.up_proj",
    "ffn_down": "model.layers.{}.mlp.down_proj",
}
QWEN3 = LLAMA | {
    "attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "attn_k_norm": "model.layers.{}.self_attn.k_norm",
}
# Where the same name means another tensor than in Llama.
OLMO2 = QWEN3 | {
    "post_attention_norm": "model.layers.{}.post_attention_layernorm",
    "post_ffw_norm": "model.layers.{}.post_feedforward_layernorm",
}
BERT = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "attn_q": "encoder.layer.{}.attention.self.query",
    "attn_k": "encoder.layer.{}.attention.self.key",
    "attn_v": "encoder.layer.{}.attention.self.value",
    "attn_output": "encoder.layer.{}.attention.output.dense",
    "attn_output_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "ffn_up": "encoder.layer.{}.intermediate.dense",
    "ffn_down": "encoder.layer.{}.output.dense",
    "layer_output_norm": "encoder.layer.{}.output.LayerNorm",
}
TABLES = {"llama": LLAMA, "qwen3": QWEN3, "olmo2": OLMO2, "bert": BERT}


def renamed(name: str, table: dict[str, str]) -> str:
    found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    assert found is not None
    layer, kind, suffix = found.groups()
    return f"{table[kind].format(layer)}.{suffix}"


def write_renamed(
    path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch, **knobs: Any
) -> Path:
    class Writer(gguf.GGUFWriter):
        def add_tensor(self, name: str, *args: Any, **kwargs: Any) -> None:
            super().add_tensor(renamed(name, TABLES[architecture]), *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(reference.tiny_models, "GGUFWriter", Writer)
        return write_tiny_model(path, architecture, "Q8_0", **knobs)


@pytest.mark.parametrize("architecture", TABLES)
def test_both_names_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    knobs = {"num_kv_heads": 4, "num_layers": 12}
    usual = write_tiny_model(tmp_path / "a.gguf", architecture, "Q8_0", **knobs)
    other = write_renamed(tmp_path / "b.gguf", architecture, monkeypatch, **knobs)
    report = check_model(other)
    assert report.unused_tensors == ()
    with GGUFFile.open(usual) as a, GGUFFile.open(other) as b:
        assert list(a.tensors) == list(b.tensors)
    ids = prompt(515, 20)
    if architecture == "bert":
        (expected,), (found,) = hidden_states(usual, [ids]), hidden_states(other, [ids])
    else:
        expected, found = teacher_forced(usual, ids), teacher_forced(other, ids)
    np.testing.assert_array_equal(found, expected)


def write(path: Path, renaming: dict[str, str], *more: str) -> Path:
    model = tiny_model()
    for tensor in model.tensors:
        name = tensor.name.decode()
        tensor.name = renaming.get(name, name).encode()
    model.tensors += [f32_tensor(name, 32) for name in more]
    path.write_bytes(model.build())
    return path


def test_two_names_of_one_tensor_are_a_damaged_file(tmp_path: Path) -> None:
    renaming = {"token_embd.weight": "model.embed_tokens.weight"}
    path = write(tmp_path / "m.gguf", renaming, "model.norm.weight")
    with pytest.raises(ModelFileError, match=r"two tensors.*mean output_norm\.weight"):
        GGUFFile.open(path)


def test_names_that_nobody_knows_stay(tmp_path: Path) -> None:
    renaming = {
        "token_embd.weight": "my.embedding.weight",
        "output_norm.weight": "model.norm.weight",
    }
    with GGUFFile.open(write(tmp_path / "m.gguf", renaming)) as file:
        assert "my.embedding.weight" in file.tensors
        assert "model.norm.weight" in file.tensors
    with pytest.raises(ModelFileError, match="the embedding is missing"):
        check_model(tmp_path / "m.gguf")


def test_a_layer_of_a_hostile_number_makes_no_table_of_as_many(tmp_path: Path) -> None:
    renaming = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.0.attn_norm.weight": "model.layers.999999999.input_layernorm.weight",
    }
    with GGUFFile.open(write(tmp_path / "m.gguf", renaming)) as file:
        assert "blk.999999999.attn_norm.weight" in file.tensors
    with pytest.raises(ModelFileError, match="1000000000"):
        check_model(tmp_path / "m.gguf")
