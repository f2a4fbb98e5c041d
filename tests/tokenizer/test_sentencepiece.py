"""SentencePiece BPE against merging by score said plainly, ties and byte fallback included."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naive_tokenizers import sentencepiece_bpe
from texts import texts
from vocabulary_files import (
    BYTE,
    BYTE_TOKENS,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    USER_DEFINED,
    float32,
    write_vocabulary,
)

from rocmforge.errors import ModelFileError
from rocmforge.tokenizer import Tokenizer

SPECIAL = ["<unk>", "<s>", "</s>"]
SPECIAL_TYPES = [UNKNOWN, CONTROL, CONTROL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sentencepiece")


def tokenizer(folder: Path, pieces: dict[str, float], **values: object) -> Tokenizer:
    """A vocabulary of the special tokens, all bytes, and pieces with their scores."""
    tokens = [*SPECIAL, *BYTE_TOKENS, *pieces]
    all_scores = [0.0] * (len(tokens) - len(pieces)) + list(pieces.values())
    types = [*SPECIAL_TYPES, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    values = {"scores": all_scores, "token_type": types} | values
    return Tokenizer.from_gguf(
        write_vocabulary(folder / "vocabulary.gguf", "llama", tokens, **values)
    )


def naive(text: str, scores: dict[str, float]) -> list[int]:
    first = len(SPECIAL) + 256
    ids = {piece: first + place for place, piece in enumerate(scores)}
    rounded = dict(zip(scores, float32(list(scores.values())), strict=True))
    result = []
    for symbol in sentencepiece_bpe(text, rounded):
        fallback = [len(SPECIAL) + byte for byte in symbol.encode()]
        result += [ids[symbol]] if symbol in ids else fallback
    return result


WORDS = {
    **dict.fromkeys([*f"{SPACE}abtheso", "\xe9", "\u65e5"], -40.0),
    **{SPACE * count: -5.0 - count for count in (2, 3, 4, 8)},
    **dict.fromkeys(["th", "aa", "aaa", "aba", "ab", "ba", "\u65e5\u672c", "\n\n"], -1.0),
    f"{SPACE}the": -2.0,
    f"{SPACE}t": -1.5,
    f"a{SPACE}": -1.5,
    "he": -2.25,
    "the": -2.5,
    "es": -3.0,
    "e\u0301": -0.5,
    "\U0001f600\U0001f600": -2.0,
}


def test_ids_are_those_of_merging_by_score(folder: Path) -> None:
    ours = tokenizer(folder, WORDS)

    @settings(max_examples=300)
    @given(texts)
    def check(text: str) -> None:
        assert ours.encode(text) == (naive(" " + text, WORDS) if text else [])
        assert ours.decode(ours.encode(text)) == text.replace(SPACE, " ")

    check()


pieces = st.text(f"ab{SPACE}\xe9", min_size=1, max_size=5)
vocabularies = st.dictionaries(pieces, st.integers(-4, 4).map(float), min_size=1, max_size=14)


def test_any_vocabulary_merges_by_score_and_place(folder: Path) -> None:
    """Equal scores, pieces no pair makes, and pieces that score above their own parts."""

    @settings(max_examples=400)
    @given(scores=vocabularies, text=st.text("ab \xe9", max_size=20))
    # Two splits of one piece that overlap: left to right, whichever split comes first.
    @example(scores={"ab": 3.0, "ba": 2.0, "aba": 1.0}, text="ababa")
    @example(scores={"aa": 2.0, "aaa": 1.0}, text="aaaaa")
    def check(scores: dict[str, float], text: str) -> None:
        ours = tokenizer(folder, scores, add_space_prefix=False)
        assert ours.encode(text) == naive(text, scores)

    check()


def test_space_goes_in_front_unless_the_file_says_no(folder: Path) -> None:
    with_space = tokenizer(folder, WORDS)
    without = tokenizer(folder, WORDS, add_space_prefix=False)
    assert [with_space.token_text(id) for id in with_space.encode("the")] == [f"{SPACE}the"]
    assert [without.token_text(id) for id in without.encode("the")] == ["the"]
    assert with_space.decode(with_space.encode(" the")) == " the"
    assert without.decode(without.encode(" the")) == " the"


def test_each_text_between_special_tokens_gets_its_space(folder: Path) -> None:
    ours = tokenizer(folder, WORDS)
    ids = ours.encode("the<s>the", parse_special=True)
    assert [ours.token_text(id) for id in ids] == [f"{SPACE}the", "<s>", f"{SPACE}the"]


@pytest.mark.parametrize("text", ["<s>", "</s>", "<unk>", "<0x41>"])
def test_text_never_merges_into_a_token_that_is_no_text(folder: Path, text: str) -> None:
    """Though every step there is a piece: `<0x4` + `1>` would make the byte token."""
    steps = {text[start:end] for end in range(len(text) + 1) for start in range(end)}
    scores = {step: -1.0 for step in sorted(steps) if step != text}
    ours = tokenizer(folder, {SPACE: -2.0, **scores})
    special = {ours.bos_id, ours.eos_id, 0, len(SPECIAL) + 0x41}
    ids = ours.encode(text)
    assert not special & set(ids)
    assert ours.decode(ids) == text


def test_without_byte_tokens_a_run_of_strange_characters_is_one_unknown(folder: Path) -> None:
    tokens = [*SPECIAL, "a", SPACE]
    path = write_vocabulary(
        folder / "unknown.gguf",
        "llama",
        tokens,
        scores=[0.0] * 5,
        token_type=[*SPECIAL_TYPES, NORMAL, NORMAL],
    )
    assert Tokenizer.from_gguf(path).encode("axyaz") == [4, 3, 0, 3, 0]


def test_user_defined_token_is_found_before_merging(folder: Path) -> None:
    tokens = [*SPECIAL, *BYTE_TOKENS, "a", "b", "ab", "b  a", SPACE]
    ours = Tokenizer.from_gguf(
        write_vocabulary(
            folder / "user.gguf",
            "llama",
            tokens,
            scores=[0.0] * len(tokens),
            token_type=[
                *SPECIAL_TYPES,
                *[BYTE] * 256,
                NORMAL,
                NORMAL,
                NORMAL,
                USER_DEFINED,
                NORMAL,
            ],
        )
    )
    texts = [ours.token_text(id) for id in ours.encode("ab  ab")]
    assert texts == [SPACE, "a", "b  a", SPACE, "b"]
    # The text behind it gets a space in front, as behind every token that is no plain text.
    assert ours.decode(ours.encode("ab  ab")) == "ab  a b"


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"scores": [0.0]}, "scores", "1 elements for 264 tokens"),
        ({"scores": [float("nan")] * 264}, "scores", "element 0 is nan"),
        ({"scores": [0.0] * 263 + [float("inf")]}, "scores", "element 263 is inf"),
        ({"scores": [1] * 264}, "scores", "not an array of floats"),
        ({"token_type": [1] * 265}, "token_type", "265 elements for 264 tokens"),
        ({"token_type": [7] * 264}, "token_type", "7 is outside of 0 to 6"),
        ({"token_type": [-1] * 264}, "token_type", "-1 is outside of 0 to 6"),
        ({"token_type": [BYTE] * 264}, "tokens", "byte token '<unk>' is not of the form <0xNN>"),
        ({"bos_token_id": 264}, "bos_token_id", "264 is outside of 0 to 263"),
        ({"eos_token_id": -1}, "eos_token_id", "-1 is outside"),
        ({"add_bos_token": 1}, "add_bos_token", "not a bool"),
    ],
)
def test_arrays_and_ids_that_do_not_fit_are_refused(
    folder: Path, change: dict[str, object], key: str, message: str
) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        tokenizer(folder, dict.fromkeys("abcde", -1.0), **change)
    assert caught.value.key == f"tokenizer.ggml.{key}"


@pytest.mark.parametrize(
    "bad", ["<0x-1>", "<0x1>", "<0x100>", "<0xG0>", "0x41", "<0x4\u0661>", "<0x41"]
)
def test_malformed_byte_token_is_refused(folder: Path, bad: str) -> None:
    tokens = [*SPECIAL, *BYTE_TOKENS[:0x41], bad, *BYTE_TOKENS[0x42:]]
    path = write_vocabulary(
        folder / "bad.gguf",
        "llama",
        tokens,
        scores=[0.0] * len(tokens),
        token_type=[*SPECIAL_TYPES, *[BYTE] * 256],
    )
    with pytest.raises(ModelFileError, match="is not of the form <0xNN>"):
        Tokenizer.from_gguf(path)


def test_byte_tokens_that_lack_a_byte_are_refused(folder: Path) -> None:
    tokens = [*SPECIAL, *BYTE_TOKENS[1:]]
    path = write_vocabulary(
        folder / "lacking.gguf",
        "llama",
        tokens,
        scores=[0.0] * len(tokens),
        token_type=[*SPECIAL_TYPES, *[BYTE] * 255],
    )
    with pytest.raises(ModelFileError, match="255 byte tokens for 255 bytes; all 256 or none"):
        Tokenizer.from_gguf(path)


def test_missing_scores_are_refused(folder: Path) -> None:
    path = write_vocabulary(folder / "no_scores.gguf", "llama", [*SPECIAL, "a"])
    with pytest.raises(ModelFileError, match=r"missing.*tokenizer\.ggml\.scores"):
        Tokenizer.from_gguf(path)


@pytest.mark.parametrize("unit", [" ", "a", "ab", "\u65e5", "the "])
def test_time_is_linear_in_the_text(folder: Path, unit: str) -> None:
    ours = tokenizer(folder, WORDS)
    text = unit * (2**16 // len(unit))

    def seconds(text: str) -> float:
        started = time.process_time()
        ours.encode(text)
        return time.process_time() - started

    # n log n merges of a quarter of a microsecond; a quadratic loop would take minutes.
    assert min(seconds(text) for _ in range(2)) < 0.5
