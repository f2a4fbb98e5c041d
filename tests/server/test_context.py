"""/v1/context, and the request field that puts what is found before a question."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import SMALL, Served, serving

from rocmforge.cli import main
from rocmforge.context import ContextStore
from rocmforge.server.contexts import ContextStores
from rocmforge.server.errors import RequestError
from rocmforge.server.settings import ServerSettings

KEY, OTHER = "first-key-0123456789", "other-key-0123456789"
FACTS = {
    "cats": "Cats sleep for most of the day, and at night they hunt mice.",
    "boats": "The old boat lay at the harbour, and nobody had sailed it for years.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("context")


@pytest.fixture(scope="module")
def keyed(folder: Path) -> Iterator[Served]:
    (folder / "keys").write_text(f"{KEY}\n{OTHER}\n")
    arguments = ("--api-key-file", str(folder / "keys"), "--context-dir", str(folder / "files"))
    # Prefixes are shared; documents never are.
    with serving(folder, *SMALL, *arguments, "--share-prefix-cache") as served:
        yield served


def asked(served: Served, path: str, body: Any, key: str = KEY) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return served.post(path, body, headers=headers)


def done(served: Served, path: str, body: Any, key: str = KEY) -> Any:
    answer = asked(served, path, body, key)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def facts(keyed: Served) -> str:
    documents = [{"name": name, "text": text} for name, text in FACTS.items()]
    added = done(keyed, "/v1/context/add", {"store": "facts", "documents": documents})
    assert [d["num_chunks"] for d in added["documents"]] == [1, 1]
    return "facts"


def test_a_search_ranks_by_the_vectors_that_the_server_makes(keyed: Served, facts: str) -> None:
    query = "zzz qqq"  # of none of their words
    inputs = {"input": [*FACTS.values(), query]}
    data = done(keyed, "/v1/embeddings", inputs)["data"]
    vectors = np.array([item["embedding"] for item in data])
    expected = np.array(list(FACTS))[np.argsort(-(vectors[:2] @ vectors[2]))]
    hits = done(keyed, "/v1/context/search", {"store": facts, "query": query})["hits"]
    assert [hit["document"] for hit in hits] == list(expected)
    assert [hit["score"] for hit in hits] == pytest.approx([1 / 61, 1 / 62])


def test_documents_can_be_linked_listed_exported_and_deleted(keyed: Served) -> None:
    documents = [{"name": n, "text": f"word{n} " * 300} for n in "abc"]
    body = {"store": "own", "documents": documents, "words_only": True, "chunk_chars": 500}
    assert done(keyed, "/v1/context/add", body)["documents"][0]["num_chunks"] == 4
    link = {"store": "own", "source": "a", "kind": "cites", "target": "b"}
    assert done(keyed, "/v1/context/link", link) == {"new": True}
    search = {"store": "own", "query": "worda", "k": 1}
    hits = done(keyed, "/v1/context/search", search)["hits"]
    assert [(hit["document"], hit["via"]) for hit in hits] == [("a", "match"), ("b", "link")]
    listed = done(keyed, "/v1/context/list", {"store": "own", "after": "a", "limit": 1})
    assert [d["name"] for d in listed["documents"]] == ["b"]
    assert "own" in [store["name"] for store in listed["stores"]]
    exported = done(keyed, "/v1/context/export", {"store": "own", "after": "b"})
    assert [d["name"] for d in exported["documents"]] == ["c"]
    assert " ".join(exported["documents"][0]["chunks"]).split() == ["wordc"] * 300
    assert exported["more"] is False
    deletes = {"store": "own", "document": "a"}
    assert done(keyed, "/v1/context/delete", deletes) == {"deleted": 1}
    assert done(keyed, "/v1/context/delete", {"store": "own"}) == {"deleted": 2}


def test_a_key_neither_finds_nor_deletes_what_another_has(keyed: Served, facts: str) -> None:
    assert done(keyed, "/v1/context/list", {}, OTHER) == {"stores": [], "documents": []}
    for path, body in [
        ("search", {"store": facts, "query": "cats"}),
        ("export", {"store": facts}),
        ("delete", {"store": facts}),
        ("delete", {"store": facts, "document": "cats"}),
        ("link", {"store": facts, "source": "cats", "kind": "k", "target": "boats"}),
    ]:
        answer = asked(keyed, f"/v1/context/{path}", body, OTHER)
        assert answer.status_code == 400
        assert "there is no store 'facts'" in answer.json()["error"]["message"]
    body = {"prompt": "cats", "context": {"store": facts}}
    assert asked(keyed, "/v1/completions", body, OTHER).status_code == 400
    assert len(done(keyed, "/v1/context/export", {"store": facts})["documents"]) == 2


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("add", {"documents": []}, "documents"),
        ("add", {"documents": [{"name": "a\0", "text": "x"}]}, "NUL"),
        ("add", {"documents": [{"name": "a", "text": "x\0"}], "words_only": True}, "NUL"),
        ("add", {"documents": [{"name": "a", "text": " "}]}, "is empty"),
        ("add", {"documents": [{"name": "a", "text": "x"}], "chunk_chars": 1}, "can be 32 to"),
        ("add", {"documents": [{"name": "a", "text": "x"}], "store": "../../x"}, "the store is"),
        ("add", {"documents": [{"name": "a" * 600, "text": "x"}]}, "600 characters"),
        ("add", {"documents": [{"name": "a", "text": "xy " * 1_500_000}]}, "the limit is 4194304"),
        ("add", {"documents": [{"name": "a", "text": "x", "path": "/etc/passwd"}]}, "no such"),
        ("search", {"query": "x", "k": 1000}, "k is 1000; it can be 1 to 50"),
        ("search", {"query": "x" * 9000}, "9000 characters"),
        ("search", {"query": "x", "depth": -1}, "depth is -1"),
        ("search", {"query": "x", "store": "none"}, "there is no store 'none'"),
        ("link", {"source": "a", "kind": "k", "target": 1}, "target"),
        ("list", {"limit": 10**9}, "limit"),
        ("delete", {}, "store"),
    ],
)
def test_what_is_wrong_is_refused_and_named(
    keyed: Served, path: str, body: dict[str, Any], words: str
) -> None:
    answer = asked(keyed, f"/v1/context/{path}", body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_a_quota_is_not_a_reason_to_try_again(keyed: Served) -> None:
    for start in range(0, 101, 20):
        for i in range(start, start + 20):
            body = {
                "store": f"s{i}",
                "documents": [{"name": "a", "text": "x"}],
                "words_only": True,
            }
            answer = asked(keyed, "/v1/context/add", body, OTHER)
            if answer.status_code != 200:
                break
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "quota_exceeded"
    assert "it may have 100 stores" in answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers


def test_what_is_found_stands_before_the_question_and_is_cached(keyed: Served, facts: str) -> None:
    def usage(question: str) -> tuple[int, int]:
        body = {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": question},
            ],
            "context": {"store": facts, "linked": 0},
            "max_tokens": 1,
        }
        used = done(keyed, "/v1/chat/completions", body)["usage"]
        return used["prompt_tokens_details"]["cached_tokens"], used["prompt_tokens"]

    usage("Who hunts mice at night?")
    # Another order of scores, the same two chunks: all but the last block and the question.
    cached, total = usage("What lay at the harbour?")
    assert cached > 0.6 * total
    assert total > 60


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_goes_on_from_what_was_found(keyed: Served, facts: str, stream: bool) -> None:
    body = {"prompt": "The boat", "max_tokens": 4, "echo": True, "temperature": 0, "stream": stream}
    context = {"store": facts, "query": "harbour boat", "k": 2}
    answer = asked(keyed, "/v1/completions", {**body, "context": context})
    assert answer.status_code == 200
    alone = asked(keyed, "/v1/completions", body)
    if not stream:
        text = answer.json()["choices"][0]["text"]
        expected = f"[cats]\n{FACTS['cats']}\n\n[boats]\n{FACTS['boats']}\n\nThe boat"
        assert expected in text
        assert alone.json()["choices"][0]["text"].startswith("The boat")
    else:
        assert "harbour" in answer.text
        assert "harbour" not in alone.text


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("completions", {"prompt": [1, 2], "context": {}}, "the prompt has token ids"),
        ("completions", {"prompt": "a", "context": {"store": "none"}}, "no store 'none'"),
        ("completions", {"prompt": "a", "context": {"k": 0}}, "k is 0"),
        ("completions", {"prompt": "a", "context": {"file": "x"}}, "no such parameter"),
        (
            "chat/completions",
            {"messages": [{"role": "system", "content": "a"}], "context": {}},
            "there is none",
        ),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": ""}], "context": {}},
            "query is empty",
        ),
    ],
)
def test_a_context_that_cannot_be_is_refused(
    keyed: Served, path: str, body: dict[str, Any], words: str
) -> None:
    answer = asked(keyed, f"/v1/{path}", body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_without_a_folder_there_is_no_context() -> None:
    with pytest.raises(RequestError, match="--context-dir names a folder") as caught:
        asyncio.run(ContextStores(None).run("", ContextStore.stores))
    assert caught.value.http_status == 501
    assert ServerSettings.load().context_dir is None


def test_what_was_acknowledged_survives_kill_9_and_the_command_line_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, *SMALL, "--context-dir", str(tmp_path / "files")) as served:
        body = {"documents": [{"name": "cats", "text": FACTS["cats"]}]}
        assert served.post("/v1/context/add", body).status_code == 200
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
    path = tmp_path / "files" / "default.db"
    assert [info.name for info in ContextStore(path).documents("default")] == ["cats"]
    # The same model has the same name there: its vectors are taken.
    command = ["context", "search", "mice", "--dir", str(tmp_path / "files"), "--ctx", "128"]
    assert main(command) == 0
    assert "cats #0 (match, 0.0328)" in capsys.readouterr().out
