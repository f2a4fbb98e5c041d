"""What differs from layer to layer: windows, and whether and how a layer rotates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reference.facts import FACTS, windows
from reference.tiny_models import write_tiny_model
from reference.tiny_traits import TRAITS
from rocmforge.errors import ModelFileError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig
from rocmforge.model.layers import LayerConfig


def config_of(path: Path) -> ModelConfig:
    with GGUFFile.open(path) as file:
        return ModelConfig.from_gguf(file)


@pytest.mark.parametrize("architecture", TRAITS)
def test_layers_see_and_turn_as_the_architecture_has_it(tmp_path: Path, architecture: str) -> None:
    facts, num_layers = FACTS[architecture], 13
    path = write_tiny_model(tmp_path / "m.gguf", architecture, "F32", num_layers=num_layers)
    keys = TRAITS[architecture].keys
    layers = config_of(path).layers or (LayerConfig(),) * num_layers
    assert [layer.window for layer in layers] == windows(facts, keys, num_layers)
    for number, layer in enumerate(layers, 1):
        period = facts.no_rope_period
        still = facts.no_rope or (period and number % period == 0)
        windowed = any(other.window for other in layers)
        still = still or (facts.rope_under_windows_only and windowed and not layer.window)
        assert (layer.rope == "none") == bool(still)
        local = facts.local_base or "rope.freq_base_swa" in keys
        assert (layer.rope == "local") == bool(local and layer.window)


def test_a_window_of_its_own_base_rotates_by_it(tmp_path: Path) -> None:
    key = {"rope.freq_base_swa": 500.0}
    config = config_of(write_tiny_model(tmp_path / "m.gguf", "gemma2", "F32", keys=key))
    assert [layer.rope for layer in config.layers] == ["local", "main"]
    assert config.local_rope is not None
    assert (config.local_rope.base, config.rope.base) == (500.0, 10000.0)


@pytest.mark.parametrize(
    ("pattern", "windowed"),
    [
        (3, [1, 1, 0, 1]),
        (1, [0, 0, 0, 0]),
        (0, [0, 0, 0, 0]),
        ([True, False, False, True], [1, 0, 0, 1]),
        ([1, 0, 0, 1], [1, 0, 0, 1]),
    ],
    ids=str,
)
def test_a_pattern_in_the_file_comes_before_the_architectures(
    tmp_path: Path, pattern: Any, windowed: list[int]
) -> None:
    keys = {"attention.sliding_window_pattern": pattern}
    path = write_tiny_model(tmp_path / "m.gguf", "gemma2", "F32", num_layers=4, keys=keys)
    layers = config_of(path).layers or (LayerConfig(),) * 4
    assert [layer.window for layer in layers] == [20 * kind for kind in windowed]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [([0, 2], "element 1 is 2, neither 0 nor 1"), (["a", "b"], "not an array of bools")],
    ids=str,
)
def test_a_pattern_of_other_things_is_refused(
    tmp_path: Path, pattern: list[Any], message: str
) -> None:
    keys = {"attention.sliding_window_pattern": pattern}
    path = write_tiny_model(tmp_path / "m.gguf", "gemma2", "F32", keys=keys)
    with pytest.raises(ModelFileError, match=message):
        config_of(path)


def test_a_pattern_of_another_length_is_refused(tmp_path: Path) -> None:
    keys = {"attention.sliding_window_pattern": [True] * 3}
    path = write_tiny_model(tmp_path / "m.gguf", "gemma2", "F32", keys=keys)
    with pytest.raises(ModelFileError, match="3 entries for 2 layers"):
        config_of(path)
