"""WordPiece against BERT's algorithm said plainly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from naive_tokenizers import bert_words, wordpiece
from texts import texts
from vocabulary_files import CONTROL, NORMAL, SPACE, write_vocabulary

from rocmforge.errors import ModelFileError
from rocmforge.tokenizer import Tokenizer

# BERT's spelling: ## in front of what continues a word.
PIECES = [
    *("the", "cat", "c", "##a", "##t", "##at", "a", "b", "##b", "s", "##s", "##the", "12", "##3"),
    *("'", ".", ",", "!", "[", "]", "<", ">", "|", "/", "#", "$", "\u3002", "\u2019", "\u20ac"),
    *("\u65e5", "\u672c", "e", "##e", "ss", "##\xdf", "##\u0431", "\u0431", "1", "##2", "t", "z"),
    *("\u30ab", "\uac00", "\u0915", "##z", "l", "##l", "un", "##k", "im", "##end", "i", "k"),
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = SPECIAL + [
    piece.removeprefix("##") if piece.startswith("##") else SPACE + piece for piece in PIECES
]
TYPES = [CONTROL] * len(SPECIAL) + [NORMAL] * len(PIECES)
NAMED = {"cls_token_id": 2, "seperator_token_id": 3, "unknown_token_id": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wordpiece")


def tokenizer(folder: Path, tokens: list[str] = TOKENS, **values: object) -> Tokenizer:
    values = {"token_type": TYPES, **NAMED} | values
    path = folder / "vocabulary.gguf"
    return Tokenizer.from_gguf(write_vocabulary(path, "bert", tokens, **values))


def naive(text: str) -> list[int]:
    ids = {piece: id for id, piece in enumerate(PIECES, start=len(SPECIAL))}
    found = [wordpiece(word, frozenset(ids)) for word in bert_words(text)]
    return [id for pieces in found for id in ([1] if pieces is None else [ids[p] for p in pieces])]


def test_ids_are_those_of_the_longest_pieces(folder: Path) -> None:
    ours = tokenizer(folder)

    @settings(max_examples=500)
    @given(texts)
    def check(text: str) -> None:
        # \x1c and \x85 are control characters that the library takes for spaces.
        text = "".join(c for c in text if c not in "\x1c\x85\u2028\u2029\v\f\u0130")
        assert ours.encode(text) == naive(text)

    check()


def test_word_of_over_a_hundred_letters_is_unknown(folder: Path) -> None:
    ours = tokenizer(folder)
    b, more = TOKENS.index(f"{SPACE}b"), TOKENS.index("b")
    assert ours.encode("b" * 100) == [b, *[more] * 99]
    assert ours.encode("b" * 101) == [1]
    assert ours.encode("b" * 2**20) == [1]


def test_text_is_put_between_cls_and_sep(folder: Path) -> None:
    ours = tokenizer(folder)
    ids = ours.encode("the cat", add_special=True)
    assert [ours.token_text(id) for id in ids] == ["[CLS]", f"{SPACE}the", f"{SPACE}cat", "[SEP]"]
    assert ours.encode("[CLS] the[SEP]", add_special=True, parse_special=True) == [2, 5, 3]
    assert ours.decode(ids) == "the cat"


def test_case_and_accents_are_kept_where_the_file_says_so(folder: Path) -> None:
    tokens = [*TOKENS, f"{SPACE}The", f"{SPACE}\xe9t", f"{SPACE}et"]
    types = [*TYPES, NORMAL, NORMAL, NORMAL]

    def spelled(**values: object) -> list[str]:
        ours = tokenizer(folder, tokens, token_type=types, **values)
        return [ours.token_text(id) for id in ours.encode("The \xe9t")]

    lowercase, strip = "normalizer.lowercase", "normalizer.strip_accents"
    keys = {name: f"tokenizer.ggml.{name}" for name in (lowercase, strip)}
    assert spelled() == [f"{SPACE}the", f"{SPACE}et"]
    assert spelled(**{keys[lowercase]: False}) == [f"{SPACE}The", f"{SPACE}\xe9t"]
    assert spelled(**{keys[strip]: False}) == [f"{SPACE}the", f"{SPACE}\xe9t"]
    assert spelled(**{keys[lowercase]: False, keys[strip]: True}) == [f"{SPACE}The", f"{SPACE}et"]


def test_two_spellings_of_one_piece_are_refused(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="are both '##a'"):
        tokenizer(folder, [*TOKENS, f"{SPACE}##a"], token_type=[*TYPES, NORMAL])


def test_missing_unknown_token_is_refused(folder: Path) -> None:
    path = write_vocabulary(folder / "no_unk.gguf", "bert", TOKENS, token_type=TYPES)
    with pytest.raises(ModelFileError, match=r"needs one.*unknown_token_id"):
        Tokenizer.from_gguf(path)
