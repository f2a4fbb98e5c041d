from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import WORDS, onnx_model, write_tokenizer

from rocmforge import InferenceEngine
from rocmforge.errors import (
    InvalidArgumentError,
    ModelFileError,
    UnavailableError,
    UnsupportedError,
)
from rocmforge.model.onnx_embedder import OnnxEmbedder

TABLE = np.random.default_rng(3).standard_normal((len(WORDS), 24)).astype(np.float32)
TABLE[0] = np.inf  # padding must not reach a mean
TEXTS = ["the cat sat on the mat", "cat", "the mat"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime")
    write_tokenizer(tmp_path)
    path = tmp_path / "onnx" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(onnx_model(TABLE, ("input_ids", "attention_mask", "token_type_ids")))
    return path


def expected(text: str, pooling: str) -> np.ndarray:
    rows = TABLE[[1, *(WORDS.index(word) for word in text.split())]].astype(np.float64)
    row = {"mean": rows.mean(axis=0), "cls": rows[0], "last": rows[-1]}[pooling]
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_texts_of_mixed_lengths_are_pooled_as_the_model_says(model: Path, pooling: str) -> None:
    key = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[pooling]
    folder = model.parents[1] / "1_Pooling"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({f"pooling_mode_{key}": True}))
    rows = OnnxEmbedder(model, threads=1).embed(TEXTS * 20)
    assert rows.dtype == np.float32
    for row, text in zip(rows, TEXTS * 20, strict=True):
        assert np.abs(row - expected(text, pooling)).max() < 1e-6


def test_the_engine_embeds_and_refuses_to_generate(model: Path) -> None:
    with InferenceEngine() as engine:
        engine.load_onnx_model(model)
        rows = engine.embed(TEXTS)
        assert np.abs(rows[1] - expected("cat", "mean")).max() < 1e-6
        with pytest.raises(UnavailableError, match="load_gguf_model"):
            engine.start()
        with pytest.raises(InvalidArgumentError, match=r"model\.onnx is loaded already"):
            engine.load_gguf_model("other.gguf")
    with pytest.raises(UnavailableError, match="load_onnx_model"):
        InferenceEngine().embed(TEXTS)


def test_a_text_that_is_too_long_is_refused_and_not_cut(model: Path) -> None:
    embedder = OnnxEmbedder(model)
    with pytest.raises(InvalidArgumentError, match="17 tokens; the model takes 1 to 16"):
        embedder.embed(["cat " * 16])
    for none in ([], "cat"):
        with pytest.raises(InvalidArgumentError, match="at least one text"):
            embedder.embed(none)


def test_a_damaged_file_and_what_is_missing_beside_it_are_errors(model: Path) -> None:
    data = model.read_bytes()
    for broken in (b"", b"no model", data[:100], data[: len(data) // 2]):
        model.write_bytes(broken)
        with pytest.raises(ModelFileError, match="cannot load"):
            OnnxEmbedder(model)
    model.write_bytes(onnx_model(TABLE, ("pixel_values",)))
    with pytest.raises(UnsupportedError, match="takes pixel_values"):
        OnnxEmbedder(model)
    model.write_bytes(onnx_model(TABLE[:3]))  # ids beyond the table
    with pytest.raises(ModelFileError, match="cannot run"):
        OnnxEmbedder(model).embed(["mat"])
    model.write_bytes(data)
    tokenizer = model.parents[1] / "tokenizer.json"
    tokenizer.write_text("{}")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        OnnxEmbedder(model)
    tokenizer.unlink()
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.json"):
        OnnxEmbedder(model)
    with pytest.raises(InvalidArgumentError, match="is no file"):
        OnnxEmbedder(model.parent / "none.onnx")


def test_a_kind_of_pooling_that_is_not_known_is_refused(model: Path) -> None:
    folder = model.parents[1] / "1_Pooling"
    folder.mkdir()
    (folder / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(UnsupportedError, match="pooling_mode_max_tokens"):
        OnnxEmbedder(model)
    (folder / "config.json").write_text("[")
    with pytest.raises(ModelFileError, match="no JSON object"):
        OnnxEmbedder(model)


def test_without_the_extra_the_error_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnsupportedError, match=r"pip install rocmforge\[onnx\]"):
        InferenceEngine().load_onnx_model(tmp_path / "model.onnx")
