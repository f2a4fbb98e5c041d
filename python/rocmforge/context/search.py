"""Which chunks answer a question: by vector and by words, then along links."""

from __future__ import annotations

import re
from typing import Literal

import apsw
import numpy as np
import numpy.typing as npt

from rocmforge.context.values import Hit, Search

Vector = npt.NDArray[np.float32]

# Of Cormack, Clarke and Buettcher, Reciprocal Rank Fusion (SIGIR 2009).
RANK_CONSTANT = 60
# Rows of either list that take part; more change only what no k asks for.
NUM_CANDIDATES = 200
# Steps over links that one search takes, whatever they lead to.
MAX_STEPS = 1000
MAX_TERMS = 64

_TERM = re.compile(r"\w+")

_BY_VECTOR = """
    SELECT chunk_id, vec_distance_cosine(vector, ?2) AS distance FROM vectors
    WHERE store_id = ?1 AND length(vector) = length(?2)
    ORDER BY distance IS NULL, distance, chunk_id LIMIT ?3
"""
_BY_WORDS = """
    SELECT chunks.id FROM words
    JOIN chunks ON chunks.id = words.rowid
    JOIN documents ON documents.id = chunks.document_id
    WHERE words MATCH ?2 AND documents.store_id = ?1
    ORDER BY bm25(words), chunks.id LIMIT ?3
"""
# UNION drops a document that comes again at the same depth, `depth` ends cycles, LIMIT the rest.
_ALONG_LINKS = """
    WITH RECURSIVE reached (document_id, depth) AS (
        SELECT value, 0 FROM json_each(?1)
        UNION
        SELECT links.target_id, reached.depth + 1 FROM reached
        JOIN links ON links.source_id = reached.document_id
        WHERE reached.depth < ?2
        LIMIT ?3
    )
    SELECT document_id FROM reached GROUP BY document_id HAVING min(depth) > 0
    ORDER BY min(depth), document_id LIMIT ?4
"""
_CHUNK = """
    SELECT documents.name, chunks.position, chunks.text, documents.id FROM chunks
    JOIN documents ON documents.id = chunks.document_id WHERE chunks.id = ?
"""
_NEAREST_OF_DOCUMENT = """
    SELECT chunks.id FROM chunks
    LEFT JOIN vectors ON vectors.chunk_id = chunks.id AND length(vectors.vector) = length(?2)
    WHERE chunks.document_id = ?1
    ORDER BY vec_distance_cosine(coalesce(vectors.vector, ?2), ?2), chunks.position LIMIT 1
"""
_FIRST_OF_DOCUMENT = "SELECT id FROM chunks WHERE document_id = ?1 ORDER BY position LIMIT 1"


def search(
    connection: apsw.Connection, store_id: int, wanted: Search, vector: Vector | None
) -> list[Hit]:
    """Up to k matches, the best first, then what links from their documents lead to.

    `vector` [dimensions] is the query's; without one only words count.
    """
    ranked = [_by_words(connection, store_id, wanted.query)]
    if vector is not None:
        ranked.append(_by_vector(connection, store_id, vector))
    scores = fused(ranked)
    best = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[: wanted.k]
    hits = [_hit(connection, chunk, scores[chunk], "match") for chunk in best]
    documents = [hit.order[0] for hit in hits]
    for document in _linked(connection, documents, wanted):
        if vector is None:
            chunk = connection.execute(_FIRST_OF_DOCUMENT, (document,)).get
        else:
            chunk = connection.execute(_NEAREST_OF_DOCUMENT, (document, vector.tobytes())).get
        hits.append(_hit(connection, chunk, scores.get(chunk, 0.0), "link"))
    return hits


def fused(rankings: list[list[int]]) -> dict[int, float]:
    """The score of everything ranked: the sum of 1 / (60 + rank) over the rankings, from rank 1."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (RANK_CONSTANT + rank)
    return scores


def _by_vector(connection: apsw.Connection, store_id: int, vector: Vector) -> list[int]:
    rows = connection.execute(_BY_VECTOR, (store_id, vector.tobytes(), NUM_CANDIDATES))
    return [chunk for chunk, distance in rows if distance is not None]


def _by_words(connection: apsw.Connection, store_id: int, query: str) -> list[int]:
    """Any word counts. Words are quoted, so that none of them is an operator of FTS5."""
    terms = list(dict.fromkeys(_TERM.findall(query.lower())))[:MAX_TERMS]
    if not terms:
        return []
    match = " OR ".join(f'"{term}"' for term in terms)
    return [chunk for (chunk,) in connection.execute(_BY_WORDS, (store_id, match, NUM_CANDIDATES))]


def _linked(connection: apsw.Connection, documents: list[int], wanted: Search) -> list[int]:
    starts = "[" + ",".join(map(str, sorted(set(documents)))) + "]"
    values = (starts, wanted.depth, MAX_STEPS, wanted.linked)
    return [document for (document,) in connection.execute(_ALONG_LINKS, values)]


def _hit(
    connection: apsw.Connection, chunk: int, score: float, via: Literal["match", "link"]
) -> Hit:
    row = connection.execute(_CHUNK, (chunk,)).fetchone()
    if row is None:
        msg = f"the index has chunk {chunk}, which is not there"
        raise apsw.CorruptError(msg)
    name, position, text, document = row
    return Hit(name, position, text, score, via, (document, position))
