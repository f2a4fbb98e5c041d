"""Models whose tokens see those after them, on the CPU, against the float64 oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_steps import hidden_states, step_of

from reference.decoder import ReferenceDecoder
from reference.peer_cases import EMBEDDING_CASES, prompt
from reference.tiny_models import write_tiny_model
from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.model import ModelConfig
from rocmforge.model.loader import load_model
from rocmforge.model.model_parts import model_parts
from rocmforge.model.native_spec import distance_slopes
from rocmforge.model.options import LoadOptions

EXACT: dict[str, Any] = {"activations": "float", "kv_dtype": "f32"}


def oracle_of(path: Path, text: list[int]) -> np.ndarray:
    return ReferenceDecoder(path).extend(text).hidden


def model(folder: Path, case: str, weight_format: str = "Q8_0", **more: Any) -> Path:
    architecture, knobs = EMBEDDING_CASES[case]
    return write_tiny_model(folder / "m.gguf", architecture, weight_format, **(knobs | more))


def config_of(path: Path) -> ModelConfig:
    with GGUFFile.open(path) as file:
        return ModelConfig.from_gguf(file)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", EMBEDDING_CASES)
def test_texts_of_mixed_lengths_in_one_step_are_the_oracles(
    tmp_path: Path, case: str, threads: int
) -> None:
    path = model(tmp_path, case)
    texts = [prompt(515, length) for length in (96, 1, 17, 64)]
    for text, hidden in zip(
        texts, hidden_states(path, texts, threads=threads, **EXACT), strict=True
    ):
        expected = oracle_of(path, text)
        # As in test_decoder_against_reference, of values that norms keep at about 1.
        assert np.abs(hidden - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("case", ["bert", "modern-bert", "jina-bert-v2"])
def test_texts_longer_than_a_range_of_positions_are_the_oracles(tmp_path: Path, case: str) -> None:
    """Attention is computed in tiles of 64 and ranges of 1,024 positions; of the window of 20, no
    position of a range may be left for a row."""
    path = model(tmp_path, case, "F32", context_length=1300, vocab_size=320)
    text = prompt(320, 1200)
    (hidden,) = hidden_states(path, [text], threads=2, **EXACT)
    expected = oracle_of(path, text)
    assert np.abs(hidden - expected).max() < 4e-5 * np.abs(expected).max()


@pytest.mark.parametrize("case", ["bert", "nomic-bert", "jina-bert-v2"])
def test_default_kernels_point_in_the_oracles_direction(tmp_path: Path, case: str) -> None:
    path = model(tmp_path, case, "Q4_0")
    text = prompt(515)
    (hidden,) = hidden_states(path, [text])
    expected = oracle_of(path, text)
    cosines = (hidden * expected).sum(axis=1) / (
        np.linalg.norm(hidden, axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > 0.999


@pytest.mark.parametrize("case", ["bert", "jina-bert-v2", "modern-bert"])
def test_a_text_has_the_same_bits_whatever_goes_with_it(tmp_path: Path, case: str) -> None:
    path = model(tmp_path, case)
    text, other = prompt(515, 70), prompt(515, 33)[::-1]
    options: dict[str, Any] = {"deterministic": True}
    (alone,) = hidden_states(path, [text], **options)
    among = hidden_states(path, [other, text, text[:5]], threads=2, block_size=7, **options)
    np.testing.assert_array_equal(among[1], alone)


def test_part_of_a_text_is_refused(tmp_path: Path) -> None:
    decoder = load_model(model(tmp_path, "bert"), LoadOptions(max_num_seqs=1)).decoder
    step = step_of(prompt(515, 20))
    step.seq_lens = np.array([24], np.int32)
    step.block_tables = np.arange(2, dtype=np.int32)[None, :]
    with pytest.raises(InvalidArgumentError, match="a sequence is in parts"):
        decoder.enqueue(step, None)


def test_there_are_no_logits_and_no_output_matrix(tmp_path: Path) -> None:
    loaded = load_model(model(tmp_path, "bert"), LoadOptions(max_num_seqs=1))
    handle = loaded.decoder.enqueue(step_of(prompt(515, 20)), None)
    with pytest.raises(UnsupportedError, match="makes embeddings"):
        loaded.decoder.logits(handle)
    matrices = [t for t in loaded.file.tensors.values() if t.type.name == "Q8_0"]
    read = sum(t.nbytes for t in matrices if t.name != "token_embd.weight")
    assert loaded.decoder.weight_bytes == read


def test_a_step_has_room_for_the_longest_text_and_the_cache_for_a_step(tmp_path: Path) -> None:
    path = model(tmp_path, "bert", context_length=700)
    loaded = load_model(path, LoadOptions(max_num_seqs=8))
    assert loaded.decoder.max_num_tokens == loaded.decoder.max_model_len == 700
    assert loaded.decoder.num_blocks == 44 + 8
    short = load_model(path, LoadOptions(max_num_seqs=8, max_model_len=64))
    assert (short.decoder.max_num_tokens, short.decoder.num_blocks) == (512, 32 + 8)


def test_the_parts_of_an_encoder_have_each_tensor_once(tmp_path: Path) -> None:
    with GGUFFile.open(model(tmp_path, "bert")) as file:
        parts = model_parts(file, ModelConfig.from_gguf(file))
        names = [name for part in parts for name in part.tensor_bytes]
        assert sorted(names) == sorted(file.tensors)
    at_input = {"token_embd.weight", "token_types.weight", "position_embd.weight"}
    norm = {"token_embd_norm.weight", "token_embd_norm.bias"}
    assert set(parts[0].tensor_bytes) == at_input | norm


def test_slopes_are_those_of_the_paper() -> None:
    assert distance_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert distance_slopes(16)[:2] == pytest.approx([2.0**-0.5, 2.0**-1])
    assert distance_slopes(6) == pytest.approx([2.0**-i for i in (2, 4, 6, 8, 1, 3)])


@pytest.mark.parametrize(
    ("number", "pooling"), [(None, None), (0, None), (1, "mean"), (2, "cls"), (3, "last")]
)
def test_pooling_is_what_the_file_names(
    tmp_path: Path, number: int | None, pooling: str | None
) -> None:
    keys = {} if number is None else {"pooling_type": number}
    config = config_of(write_tiny_model(tmp_path / "m.gguf", "bert", "F32", keys=keys))
    assert config.pooling == pooling
    assert not config.causal


def test_models_that_rank_and_unknown_poolings_are_refused(tmp_path: Path) -> None:
    rank = write_tiny_model(tmp_path / "r.gguf", "bert", "F32", keys={"pooling_type": 4})
    with pytest.raises(UnsupportedError, match=r"scores pairs of texts.*rank"):
        config_of(rank)
    unknown = write_tiny_model(tmp_path / "u.gguf", "bert", "F32", keys={"pooling_type": 5})
    with pytest.raises(ModelFileError, match=r"bert\.pooling_type"):
        config_of(unknown)


def test_an_encoder_is_one_whatever_the_key_says(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    keys = {"attention.causal": True}
    changes = {"encoder": False}  # which would write the key
    assert not config_of(write_tiny_model(path, "bert", "F32", keys=keys, changes=changes)).causal


@pytest.mark.parametrize("case", EMBEDDING_CASES)
def test_gpus_refuse_what_they_have_no_kernel_for(tmp_path: Path, case: str) -> None:
    path = model(tmp_path, case)
    with pytest.raises(UnsupportedError, match=r"attention to tokens that follow.*no GPU kernel"):
        load_model(path, LoadOptions(device="host:0", max_num_seqs=1))
