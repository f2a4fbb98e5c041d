from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from reference.tiny_traits import TRAITS
from rocmforge import _native
from rocmforge.errors import UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model.config import ModelConfig
from rocmforge.model.decoder_index import decoder_index
from rocmforge.model.native_spec import native_weights
from rocmforge.model.tensors import expected_tensors


@pytest.mark.parametrize("architecture", sorted(TRAITS))
def test_the_index_has_every_weight_where_the_loader_finds_it(
    tmp_path: Path, architecture: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", architecture, "Q8_0")
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        index = decoder_index(file, config)
        specs = [spec for spec in expected_tensors(config) if spec.name in file.tensors]
        expected = {n: weight for spec in specs for n, weight in native_weights(file, spec)}
        weights = {weight["name"]: weight for weight in index["weights"]}
        assert weights.keys() == expected.keys()
        assert len(weights) == len(index["weights"])
        for name, (data, kind, shape, place, _) in expected.items():
            weight = weights[name]
            raw = np.fromfile(weight["file"], np.uint8, weight["nbytes"], offset=weight["offset"])
            if weight["type"] != kind:  # a vector, which the loader has decoded
                assert kind == "F32"
                raw = _native.cpu.dequantize(weight["type"], raw)
            assert tuple(weight["shape"]) == shape, name
            assert np.array_equal(raw.view(np.uint8), data.reshape(-1).view(np.uint8)), name
            assert place is None or place[1] == weight["offset"]


def test_the_spec_is_plain_and_has_what_the_decoder_reads(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", "gemma3", "Q8_0")
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        index = decoder_index(file, config)
    spec = index["spec"]
    assert index["max_model_len"] == 256
    assert spec["num_layers"] == config.num_layers
    assert spec["activation"] == "GELU_GATED"
    assert len(spec["layers"]) == config.num_layers
    assert {layer["rope"] for layer in spec["layers"]} == {"MAIN", "LOCAL"}
    assert len(spec["local_rope"]["inv_freq"]) == config.head_dim // 2


def test_weights_that_loading_expands_are_not_for_mapping(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", "llama", "TQ2_0")
    with GGUFFile.open(path) as file:
        config = ModelConfig.from_gguf(file)
        with pytest.raises(UnsupportedError, match="weights of TQ2_0 are expanded at load"):
            decoder_index(file, config)
