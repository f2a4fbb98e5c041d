"""A server of a model that only makes embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served import Served, serving

from reference.decoder import ReferenceDecoder
from reference.tiny_models import write_tiny_model
from rocmforge.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "bert.gguf"
    keys = {"pooling_type": 2}
    return write_tiny_model(path, "bert", "Q8_0", num_kv_heads=4, context_length=512, keys=keys)


@pytest.fixture(scope="module")
def server(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("log"), "--model", str(bert), "--threads", "1") as served:
        yield served


def test_texts_of_mixed_lengths_get_the_pooling_of_the_file(server: Served, bert: Path) -> None:
    texts = ["the cat sat.", "a", "no, it is not so. " * 40]
    answer = server.post("/v1/embeddings", {"input": texts}).json()
    tokenizer = Tokenizer.from_gguf(bert)
    for text, item in zip(texts, answer["data"], strict=True):
        ids = tokenizer.encode(text, add_special=True)
        first = ReferenceDecoder(bert).extend(ids).hidden[0]
        assert np.linalg.norm(item["embedding"]) == pytest.approx(1, abs=1e-5)
        assert np.dot(item["embedding"], first) / np.linalg.norm(first) > 0.999


def test_a_text_beyond_the_context_is_refused(server: Served) -> None:
    answer = server.post("/v1/embeddings", {"input": "a " * 600})
    assert answer.status_code == 400
    assert "602 tokens do not fit into a context of 512" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a", "stream": True}),
        ("/v1/generate", {"prompt": "a"}),
    ],
)
def test_generation_is_refused_with_what_there_is(
    server: Served, path: str, body: dict[str, object]
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == 400
    assert "use LLM.embed, /v1/embeddings" in answer.json()["error"]["message"]
    assert server.get("/health").status_code == 200
