"""The context store against what it promises: what is found, in which order, within which bounds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from rocmforge.context import ContextStore, Quotas, Search, as_prompt, chunked
from rocmforge.context.search import fused
from rocmforge.errors import CapacityError, InvalidArgumentError

HOSTILE_QUERIES = [
    '"',
    'a" OR "b',
    "NEAR(cat dog, 2)",
    "text:cat",
    "* ^ - + ( ) { } :",
    "cat*",
    "'; DROP TABLE chunks; --",
    "NOT cat AND",
    "%s {0} \\ \x1b[31m \u202e",
    "\U0001f408 katze 猫",
    "w " * 4096,
]


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "context.db")


def unit(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def found(store: ContextStore, query: str, name: str = "s", **options: int) -> list[str]:
    return [hit.document for hit in store.search(name, Search(query, **options))]


def test_a_document_is_found_by_its_words_and_not_by_those_of_others(store: ContextStore) -> None:
    store.add("s", "cats", ["The cat sat.", "It slept."], None)
    store.add("s", "dogs", ["The dog ran."], None)
    hits = store.search("s", Search("CAT"))
    assert [(h.document, h.position, h.text, h.via) for h in hits] == [
        ("cats", 0, "The cat sat.", "match")
    ]
    assert hits[0].score == pytest.approx(1 / 61)
    assert found(store, "bird") == []


def test_vectors_rank_as_cosines_of_float64_do(store: ContextStore) -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(50, 16)).astype(np.float32)
    for i in range(50):
        store.add("s", f"d{i}", ["x"], vectors[i : i + 1], "m")
    query = random.normal(size=16).astype(np.float32)
    rows = vectors.astype(np.float64)
    cosines = rows @ query.astype(np.float64) / np.linalg.norm(rows, axis=1)
    expected = [f"d{i}" for i in np.argsort(-cosines)[:20]]
    hits = store.search("s", Search("?", k=20), query, "m")
    assert [hit.document for hit in hits] == expected


def test_fusion_adds_the_reciprocals_of_ranks() -> None:
    scores = fused([[7, 8], [8, 9]])
    assert scores == pytest.approx({7: 1 / 61, 8: 1 / 62 + 1 / 61, 9: 1 / 62})


def test_a_chunk_found_both_ways_comes_before_those_found_one_way(store: ContextStore) -> None:
    store.add("s", "vector", ["unrelated"], unit(1, 0), "m")
    store.add("s", "both", ["a zebra"], unit(0.9, 0.1), "m")
    for i in range(9):
        store.add("s", f"near{i}", ["unrelated"], unit(0.8, 0.2), "m")
    store.add("s", "words", ["zebra zebra zebra"], unit(-1, 0), "m")
    hits = store.search("s", Search("zebra"), unit(1, 0)[0], "m")
    assert hits[0].document == "both"


def test_links_lead_on_over_as_many_steps_as_asked_for(store: ContextStore) -> None:
    for name in "abcd":
        store.add("s", name, [f"text{name}"], None)
    for source, target in itertools.pairwise("abcd"):
        assert store.link("s", source, "cites", target)
    assert not store.link("s", "a", "cites", "b")
    assert store.link("s", "a", "explains", "b")
    for depth, names in enumerate([["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d"]]):
        assert found(store, "texta", depth=depth, linked=9) == names
    assert found(store, "texta", depth=3, linked=2) == ["a", "b", "c"]
    assert [hit.via for hit in store.search("s", Search("texta"))] == ["match", "link"]
    assert found(store, "textb", depth=1) == ["b", "c"]  # never backwards


def test_cycles_and_crowds_of_links_end(store: ContextStore) -> None:
    names = [f"n{i}" for i in range(12)]
    for name in names:
        store.add("s", name, [f"word{name}"], None)
    for source in names:
        for target in names:
            store.link("s", source, "k", target)
    hits = found(store, "wordn0", depth=4, linked=50)
    assert sorted(hits) == sorted(names)


def test_of_a_linked_document_the_chunk_nearest_to_the_query_is_taken(store: ContextStore) -> None:
    store.add("s", "a", ["first"], unit(1, 0), "m")
    vectors = np.array([[0, 1], [-1, 0.1], [1, 0.1]], np.float32)
    store.add("s", "b", ["x", "y", "z"], vectors, "m")
    store.link("s", "a", "k", "b")
    hits = store.search("s", Search("first", k=1), unit(1, 0)[0], "m")
    assert [(hit.text, hit.via) for hit in hits] == [("first", "match"), ("z", "link")]


def test_a_document_of_the_same_name_is_replaced_and_keeps_links_and_place(
    store: ContextStore,
) -> None:
    store.add("s", "a", ["old words", "more"], None)
    store.add("s", "b", ["other"], None)
    store.link("s", "a", "k", "b")
    store.add("s", "a", ["new words"], None)
    assert found(store, "old") == []
    assert found(store, "new") == ["a", "b"]
    assert [info.num_chunks for info in store.documents("s")] == [1, 1]
    orders = {hit.document: hit.order for hit in store.search("s", Search("new"))}
    assert orders["a"] < orders["b"]


def test_prompts_are_the_same_whatever_the_order_of_the_scores(store: ContextStore) -> None:
    store.add("s", "a", ["red apple", "green pear"], None)
    store.add("s", "b", ["blue plum plum"], None)
    ranked = [store.search("s", Search(q)) for q in ("plum plum apple pear", "apple pear plum")]
    forwards, backwards = ranked[0], ranked[0][::-1]
    assert as_prompt(forwards) == as_prompt(backwards) == as_prompt(ranked[1])
    text = as_prompt(forwards)
    assert text.endswith("\n\n[a]\nred apple\n\ngreen pear\n\n[b]\nblue plum plum\n\n")
    assert as_prompt([]) == ""


def test_deleting_takes_documents_links_and_words_and_their_bytes(
    store: ContextStore, tmp_path: Path
) -> None:
    word = "xyzzyplugh"
    store.add("s", "a", [f"the {word} word"] * 3, unit(1, 0).repeat(3, 0), "m")
    store.add("s", "b", ["other"], unit(1, 0), "m")
    store.link("s", "b", "k", "a")
    assert store.delete("s", "a") == 1
    assert found(store, word) == []
    assert found(store, "other") == ["b"]
    left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert word.encode() not in left
    assert store.delete("s") == 1
    assert store.stores() == []


def test_an_export_has_all_there_is(store: ContextStore) -> None:
    for i in range(120):  # more than a page
        store.add("s", f"d{i:03}", [f"one {i}", "two"], None)
    store.link("s", "d000", "k", "d001")
    exported = list(store.export("s"))
    assert [document["name"] for document in exported] == [f"d{i:03}" for i in range(120)]
    assert exported[0]["chunks"] == ["one 0", "two"]
    assert exported[0]["links"] == [{"kind": "k", "target": "d001"}]


def test_stores_of_one_file_do_not_see_each_other(store: ContextStore) -> None:
    store.add("s", "a", ["cat"], unit(1, 0), "m")
    store.add("t", "b", ["cat"], unit(1, 0), "m")
    hits = store.search("t", Search("cat"), unit(1, 0)[0], "m")
    assert [hit.document for hit in hits] == ["b"]
    with pytest.raises(InvalidArgumentError, match="the store 't' has no document 'a'"):
        store.link("t", "b", "k", "a")
    with pytest.raises(InvalidArgumentError, match="no document 'b'"):
        store.delete("s", "b")


def test_vectors_of_another_model_are_refused(store: ContextStore) -> None:
    store.add("s", "a", ["cat"], unit(1, 0), "m")
    for vectors, embedder in [(unit(1, 0), "n"), (unit(1, 0, 0), "m"), (None, "")]:
        with pytest.raises(InvalidArgumentError, match="the store 's' has vectors of 'm'"):
            store.add("s", "b", ["dog"], vectors, embedder)
    for vector, embedder in [(unit(1, 0), "n"), (unit(1, 0, 0), "m")]:
        with pytest.raises(InvalidArgumentError, match="the store 's' has vectors of 'm'"):
            store.search("s", Search("a"), vector[0], embedder)
    for bad in (unit(0, 0), unit(np.nan, 0), unit(np.inf, 1)):
        with pytest.raises(InvalidArgumentError, match="zero or not finite"):
            store.add("s", "b", ["dog"], bad, "m")
    assert len(store.documents("s")) == 1


@pytest.mark.parametrize(
    ("quotas", "what"),
    [
        (Quotas(documents=2), "2 documents"),
        (Quotas(chunks=3), "3 chunks"),
        (Quotas(bytes=11), "11 bytes"),
        (Quotas(stores=1), "1 stores"),
        (Quotas(links=1), "1 links"),
    ],
)
def test_what_is_over_a_quota_is_refused_and_leaves_nothing(
    tmp_path: Path, quotas: Quotas, what: str
) -> None:
    store = ContextStore(tmp_path / "c.db", quotas)

    def fill() -> None:
        for name in "abc":
            store.add("s", name, ["four", "é"] if quotas.documents > 2 else ["a"], None)
        store.link("s", "a", "k", "b")
        store.link("s", "a", "k", "c")
        store.add("t", "a", ["x"], None)

    with pytest.raises(CapacityError, match=f"it may have {what}; delete"):
        fill()
    before = (store.stores(), list(store.export("s")))
    with pytest.raises(CapacityError, match=what):
        fill()
    assert [store.stores(), [d["name"] for d in before[1]]] == [
        before[0],
        [d["name"] for d in store.export("s")],
    ]


def test_a_replacement_may_use_the_room_of_what_it_replaces(tmp_path: Path) -> None:
    store = ContextStore(tmp_path / "c.db", Quotas(documents=1, chunks=2, bytes=8))
    for _ in range(3):
        store.check_add("s", "a", ["four", "five"], "")
        store.add("s", "a", ["four", "five"], None)
    with pytest.raises(CapacityError, match="1 documents"):
        store.check_add("s", "b", ["x"], "")


def test_a_document_over_the_limit_is_refused(tmp_path: Path) -> None:
    store = ContextStore(tmp_path / "c.db", Quotas(document_bytes=100))
    with pytest.raises(InvalidArgumentError, match="'a' has 101 bytes; the limit is 100"):
        store.add("s", "a", ["x" * 101], None)


@pytest.mark.parametrize("query", HOSTILE_QUERIES)
def test_no_query_is_an_error_of_the_database(store: ContextStore, query: str) -> None:
    store.add("s", "a", ["the cat and the dog"], None)
    assert found(store, query) in ([], ["a"])
    assert found(store, "cat") == ["a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"query": ""}, "query is empty"),
        ({"query": "a\0b"}, "query has a NUL character at 1"),
        ({"query": "a\ud800"}, "query has half of a surrogate pair at 1"),
        ({"query": "x" * 8193}, "query has 8193 characters"),
        ({"query": "x", "k": 0}, "k is 0; it can be 1 to 50"),
        ({"query": "x", "k": 51}, "k is 51"),
        ({"query": "x", "depth": 5}, "depth is 5; it can be 0 to 4"),
        ({"query": "x", "linked": -1}, "linked is -1"),
    ],
)
def test_searches_out_of_bounds_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Search(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", " ", "a\0", "\udfff", "n" * 513])
def test_names_that_are_none_are_refused(store: ContextStore, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="the document's name"):
        store.add("s", name, ["x"], None)


@pytest.mark.parametrize("label", ["", "a b", "../x", "-x", "a" * 65, "é", "a\n"])
def test_labels_that_are_none_are_refused(store: ContextStore, label: str) -> None:
    store.add("s", "a", ["x"], None)
    with pytest.raises(InvalidArgumentError, match="the store is"):
        store.add(label, "a", ["x"], None)
    with pytest.raises(InvalidArgumentError, match="the kind of a link is"):
        store.link("s", "a", label, "a")


@pytest.mark.parametrize("chunks", [[], [""], ["a\0"], ["\ud800"]])
def test_texts_that_are_none_are_refused(store: ContextStore, chunks: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="'a'"):
        store.add("s", "a", chunks, None)
    assert store.stores() == []


def test_chunks_end_where_paragraphs_lines_or_words_do() -> None:
    text = "First paragraph here.\n\nThe second one is as long as that. And it goes on, and on."
    assert chunked(text, 40) == [
        "First paragraph here.",
        "The second one is as long as that.",
        "And it goes on, and on.",
    ]
    assert chunked("x" * 100, 40) == ["x" * 40, "x" * 40, "x" * 20]
    assert chunked(" \n" * 100) == []


def test_chunks_have_every_character_that_is_not_blank() -> None:
    random = np.random.default_rng(2)
    for _ in range(50):
        text = "".join(random.choice(list("ab. \n!?。"), size=random.integers(1, 500)))
        pieces = chunked(text, 32)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(0 < len(piece) <= 34 for piece in pieces)
