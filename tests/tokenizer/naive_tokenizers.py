"""The algorithms of the four kinds, as plainly as they can be said. For short texts."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence

from vocabulary_files import BYTE_CHARACTERS, SPACE


def merge_by_rank(piece: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """BPE: again and again, the pair of the lowest rank, the leftmost of those."""
    symbols = list(piece)
    while True:
        pairs = [
            (ranks[pair], place)
            for place, pair in enumerate(itertools.pairwise(symbols))
            if pair in ranks
        ]
        if not pairs:
            return symbols
        _, place = min(pairs)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def byte_level_bpe(
    pieces: Sequence[str], merges: Sequence[tuple[str, str]], ids: Mapping[str, int], ignore: bool
) -> list[int]:
    """`pieces` as text; `ignore`: a piece that is a token is that token."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    result = []
    for piece in pieces:
        word = "".join(BYTE_CHARACTERS[byte] for byte in piece.encode())
        symbols = [word] if ignore and word in ids else merge_by_rank(word, ranks)
        result += [ids[symbol] for symbol in symbols]
    return result


def sentencepiece_bpe(text: str, scores: Mapping[str, float]) -> list[str]:
    """Again and again, the pair whose whole scores highest, the leftmost of those."""
    symbols = list(text.replace(" ", SPACE))
    while True:
        pairs = [
            (-scores[left + right], place)
            for place, (left, right) in enumerate(itertools.pairwise(symbols))
            if left + right in scores
        ]
        if not pairs:
            return symbols
        _, place = min(pairs)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def unigram(text: str, scores: Mapping[str, float], unknown_score: float) -> list[str | None]:
    """The segmentation of the highest sum of scores; None for a run of unknown characters."""
    best: list[tuple[float, list[str | None]]] = [(0.0, [])]
    for end in range(1, len(text) + 1):
        candidates: list[tuple[float, list[str | None]]] = []
        for start in range(end):
            piece: str | None = text[start:end]
            if piece in scores:
                score = scores[piece]
            elif end - start == 1:
                piece, score = None, unknown_score
            else:
                continue
            candidates.append((best[start][0] + score, [*best[start][1], piece]))
        # max() keeps the first of equals, which is the longest last piece.
        best.append(max(candidates, key=lambda candidate: candidate[0]))
    pieces = best[-1][1]
    return [
        piece
        for place, piece in enumerate(pieces)
        if piece is not None or place == 0 or pieces[place - 1] is not None
    ]


def wordpiece(word: str, pieces: frozenset[str]) -> list[str] | None:
    """The longest piece, again and again; `pieces` in BERT's spelling. None if that fails."""
    result: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = [e for e in range(start + 1, len(word) + 1) if prefix + word[start:e] in pieces]
        if not ends or len(word) > 100:
            return None
        result.append(prefix + word[start : max(ends)])
        start = max(ends)
    return result


def bert_words(text: str) -> list[str]:
    """BERT's basic tokenization, lower-casing (google-research/bert, tokenization.py)."""
    spaced = ""
    for character in text:
        code = ord(character)
        category = unicodedata.category(character)
        if character in "\t\n\r" or category == "Zs":
            spaced += " "
        elif code in (0, 0xFFFD) or category.startswith("C"):
            continue
        elif any(first <= code <= last for first, last in _CHINESE):
            spaced += f" {character} "
        else:
            spaced += character
    lowered = unicodedata.normalize("NFD", spaced)
    lowered = "".join(c for c in lowered if unicodedata.category(c) != "Mn").lower()
    for character in set(lowered):
        ascii_symbol = character.isascii() and not character.isalnum() and character > " "
        if ascii_symbol or unicodedata.category(character).startswith("P"):
            lowered = lowered.replace(character, f" {character} ")
    return lowered.split()


_CHINESE = [
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)),
    *((0x2B740, 0x2B81F), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
]
