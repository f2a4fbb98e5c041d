"""`rocmforge embed`, and what the other commands say of a model that only makes embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.decoder import ReferenceDecoder
from reference.tiny_models import write_tiny_model
from rocmforge.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embed") / "bert.gguf"
    keys = {"pooling_type": 2}
    return write_tiny_model(path, "bert", "Q8_0", num_kv_heads=4, keys=keys)


def expected(path: Path, text: str) -> np.ndarray:
    ids = Tokenizer.from_gguf(path).encode(text, add_special=True)
    assert (ids[0], ids[-1]) == (2, 3)  # [CLS] and [SEP]
    return ReferenceDecoder(path).extend(ids).hidden


def test_vectors_are_those_of_the_pooling_the_file_names(run: Any, bert: Path) -> None:
    texts = ["the cat sat.", "a", "no, it is not so."]
    report = run("embed", *texts, "--model", bert, "--json").json
    assert (report["pooling"], report["dimensions"], report["normalized"]) == ("cls", 64, True)
    for text, vector in zip(texts, report["embeddings"], strict=True):
        first = expected(bert, text)[0]
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        assert np.dot(vector, first) / np.linalg.norm(first) > 0.999


def test_pooling_and_length_can_be_chosen(run: Any, bert: Path) -> None:
    ran = run("embed", "the cat sat.", "--model", bert, "--pooling", "mean", "--raw")
    vector = np.array([float(x) for x in ran.out.split()])
    assert ran.out.count("\n") == 1
    mean = expected(bert, "the cat sat.").mean(axis=0)
    assert np.abs(vector - mean).max() < 0.05 * np.abs(mean).max()


def test_a_model_that_generates_embeds_too(run: Any, tiny_model: Path) -> None:
    report = run("embed", "a cat", "--model", tiny_model, "--json").json
    assert report["pooling"] == "mean"
    assert len(report["embeddings"]) == 1


def test_an_unknown_pooling_is_a_usage_error(run: Any, bert: Path) -> None:
    ran = run("embed", "a", "--model", bert, "--pooling", "max")
    assert ran.exit_code == 2
    assert "pooling is 'max'; it can be mean, cls, last" in ran.err


@pytest.mark.parametrize("command", [["generate", "hi"], ["chat"], ["bench", "-p", "4", "-n", "2"]])
def test_commands_that_generate_say_what_the_model_is_for(
    run: Any, bert: Path, command: list[str]
) -> None:
    ran = run(*command, "--model", bert)
    assert ran.exit_code == 1
    assert "makes embeddings and cannot generate text" in ran.err
    assert "Traceback" not in ran.err


def test_info_says_what_a_model_is_for(run: Any, bert: Path, tiny_model: Path) -> None:
    report = run("info", bert, "--json").json
    assert report["purpose"] == (
        "embeddings of texts of up to 256 tokens, pooling cls; it cannot generate text"
    )
    assert [placed["part"] for placed in report["placement"]][-2:] == ["layer 1", "output"]
    assert "\nfor embeddings of texts" in run("info", bert).out
    purpose = run("info", tiny_model, "--json").json["purpose"]
    assert purpose == "generating text, in texts of up to 256 tokens"


def test_info_tells_a_generating_model_that_was_made_for_embeddings(
    run: Any, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", "qwen3", "F16", keys={"pooling_type": 3})
    assert run("info", path, "--json").json["purpose"].startswith("embeddings, pooling last; it ")
    assert run("embed", "a", "--model", path, "--json").json["pooling"] == "last"
