"""How experts are chosen and weighed, and latent attention, as files describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig
from rocmforge.model.architecture import ExpertGate
from rocmforge.model.experts import RoutingConfig


def config_of(path: Path) -> ModelConfig:
    with GGUFFile.open(path) as file:
        return ModelConfig.from_gguf(file)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"expert_gating_func": 3}, "expert_gating_func 3 is not supported"),
        ({"expert_group_count": 8}, "expert_group_count above 1 is not supported"),
        ({"attention.value_length": 16}, "16 is not the latent size 32"),
        ({"attention.key_length": 32}, "32 is not the latent size 32 and what rotates"),
        ({"rope.scaling.type": "yarn"}, "yarn_log_multiplier"),
    ],
    ids=str,
)
def test_what_experts_and_latent_attention_cannot_be_is_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "deepseek2", "F32", keys=keys)
    with pytest.raises((ModelFileError, UnsupportedError), match=message):
        config_of(path)


def test_an_expert_for_all_may_be_missing_where_it_is_optional(tmp_path: Path) -> None:
    changes, keys = {"shared_expert": None}, {"expert_shared_count": 0}
    path = tmp_path / "m.gguf"
    write_tiny_model(path, "glm4moe", "F32", changes=changes, keys=keys)
    assert config_of(path).shared_ffn_size == 0


def test_an_expert_for_all_is_as_large_as_so_many_others(tmp_path: Path) -> None:
    config = config_of(write_tiny_model(tmp_path / "m.gguf", "glm4moe", "F32"))
    assert (config.expert_ffn_size, config.shared_ffn_size) == (32, 64)
    assert config.routing == RoutingConfig(ExpertGate.SIGMOID, True, 1.5, 1)
