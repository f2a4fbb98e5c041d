"""`rocmforge context`: documents in, chunks out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.tiny_models import write_tiny_model
from rocmforge.cli.context import COMMANDS


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("context") / "bert.gguf"
    return write_tiny_model(path, "bert", "Q8_0", num_kv_heads=4, keys={"pooling_type": 1})


@pytest.fixture
def context(run: Any, tmp_path: Path) -> Any:
    """A command of `rocmforge context` on a folder of its own."""

    def call(command: str, *arguments: object) -> Any:
        return run("context", command, *arguments, "--dir", tmp_path / "store")

    return call


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("command", ["add", "search", "link", "list", "delete", "export"])
def test_every_command_of_the_interface_is_there_with_help_and_json(run: Any, command: str) -> None:
    assert command in COMMANDS
    out = run("context", command, "--help").out
    for option in ("--json", "--debug", "--dir", "--store"):
        assert option in out
    assert ("--model" in out) == (command in ("add", "search"))


def test_a_text_is_found_by_the_vector_that_embed_makes_of_it(
    context: Any, run: Any, bert: Path, tmp_path: Path
) -> None:
    texts = {"a": "the cat sat.", "b": "no, it is not so.", "c": "we go on and on."}
    files = [written(tmp_path, name, text) for name, text in texts.items()]
    added = context("add", *files, "--model", bert, "--json").json
    assert [d["num_chunks"] for d in added["documents"]] == [1, 1, 1]
    query = "xyz qqq"  # of none of their words
    hits = context("search", query, "-k", 3, "--model", bert, "--json").json["hits"]
    vectors = run("embed", *texts.values(), query, "--model", bert, "--json").json["embeddings"]
    cosines = np.array(vectors[:3]) @ np.array(vectors[3])
    expected = [str(files[i]) for i in np.argsort(-cosines)]
    assert [hit["document"] for hit in hits] == expected
    assert context("list", "--json").json["stores"][0]["embedder"] == "bert.gguf (mean)"


def test_another_model_than_the_stores_is_refused(
    context: Any, bert: Path, tiny_model: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, "a", "the cat sat.")
    context("add", file, "--model", bert)
    for arguments in [("add", file, "--words-only"), ("search", "cat", "--model", tiny_model)]:
        ran = context(*arguments)
        assert ran.exit_code == 2
        assert "the store 'default' has vectors of 'bert.gguf (mean)'" in ran.err


def test_words_links_lists_and_deletes_need_no_model(context: Any, tmp_path: Path) -> None:
    long = "Cats sleep.\n\n" * 60
    files = [written(tmp_path, "cats", long), written(tmp_path, "dogs", "Dogs run.")]
    added = context("add", *files, "--words-only", "--chunk-chars", 100)
    assert added.out == f"{files[0]}: 9 chunks\n{files[1]}: 1 chunks\n"
    assert context("link", files[1], "chase", files[0]).out == "linked\n"
    assert context("link", files[1], "chase", files[0], "--json").json["new"] is False
    found = context("search", "dogs", "--json").json["hits"]
    assert [(hit["document"], hit["via"]) for hit in found] == [
        (str(files[1]), "match"),
        (str(files[0]), "link"),
    ]
    assert f"{files[1]} #0 (match, 0.0164)\nDogs run.\n" in context("search", "dogs").out
    assert context("list").out == "default: 2 documents\n"
    exported = [json.loads(line) for line in context("export").out.splitlines()]
    assert exported[1]["links"] == [{"kind": "chase", "target": str(files[0])}]
    assert context("export", "--json").json["documents"] == exported
    assert context("delete", files[0], "--json").json["deleted"] == 1
    assert context("list", "--store", "default").out == f"{files[1]}: 1 chunks\n"
    assert context("delete", "--store", "default").out == "deleted 1 documents\n"
    assert context("list", "--json").json == {"stores": []}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x"], "there is no store 'default'"),
        (["search", "x", "-k", 99], "k is 99; it can be 1 to 50"),
        (["delete"], "say which document"),
        (["add", "a", "b", "--name", "n"], "--name is for one document, not for 2"),
        (["add", "/nowhere/a", "--words-only"], "No such file"),
        (["link", "a", "k", "b", "--store", "../s"], "the store is '../s'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    context: Any, arguments: list[object], message: str
) -> None:
    ran = context(*arguments)
    assert ran.exit_code == 2
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_damaged_file_is_set_aside_and_told(context: Any, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "default.db").write_bytes(b"nothing of the kind" * 100)
    ran = context("list", "--json")
    assert ran.json == {"stores": []}
    assert "a damaged context store was set aside: " in ran.err
    assert len(list((tmp_path / "store").glob("default.db.corrupt-*"))) == 1


def test_the_folder_is_read_from_the_environment(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCMFORGE_CONTEXT_DIR", str(tmp_path / "own"))
    file = written(tmp_path, "a", "the cat sat.")
    run("context", "add", file, "--words-only", "--store", "s", "--name", "n")
    assert (tmp_path / "own" / "default.db").exists()
    assert run("context", "list", "--json").json["stores"][0]["name"] == "s"
