"""Unigram against all segmentations said plainly, and the character map in front of it."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naive_tokenizers import unigram
from vocabulary_files import (
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    float32,
    write_vocabulary,
)

from rocmforge.errors import ModelFileError
from rocmforge.tokenizer import Tokenizer

SPECIAL = ["<pad>", "</s>", "<unk>"]
SPECIAL_TYPES = [CONTROL, CONTROL, UNKNOWN]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unigram")


def tokenizer(folder: Path, pieces: dict[str, float], **values: object) -> Tokenizer:
    tokens = [*SPECIAL, *pieces]
    values = {
        "scores": [0.0, 0.0, 0.0, *pieces.values()],
        "token_type": [*SPECIAL_TYPES, *[NORMAL] * len(pieces)],
        "add_space_prefix": True,
    } | values
    path = folder / "vocabulary.gguf"
    return Tokenizer.from_gguf(write_vocabulary(path, "t5", tokens, **values))


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_text(id) for id in tokenizer.encode(text)]


# Sums of powers of two are exact and, with the letters' scores apart, seldom equal.
scores = st.integers(1, 400).map(lambda n: -n / 64)
vocabularies = st.dictionaries(
    st.text(f"ab{SPACE}\xe9", min_size=1, max_size=4), scores, min_size=1, max_size=12
)


def test_segmentation_is_the_most_probable(folder: Path) -> None:
    @settings(max_examples=300)
    @given(pieces=vocabularies, text=st.text("ab \xe9x", max_size=12))
    def check(pieces: dict[str, float], text: str) -> None:
        ours = tokenizer(folder, pieces, add_space_prefix=False)
        rounded = dict(zip(pieces, float32(list(pieces.values())), strict=True))
        wanted = unigram(text.replace(" ", SPACE), rounded, min(rounded.values()) - 10)
        ids = {piece: id for id, piece in enumerate(pieces, start=len(SPECIAL))}
        assert ours.encode(text) == [2 if piece is None else ids[piece] for piece in wanted]

    check()


def test_unknown_character_costs_ten_more_than_the_rarest_normal_piece(folder: Path) -> None:
    """18 here, so that with "bcde" it is cheaper than three pieces of 8; an unused one is none."""
    pieces = {"ab": -8.0, "cd": -8.0, "e": -8.0, "bcde": -1.0, "unused": -999.0}
    types = [*SPECIAL_TYPES, *[NORMAL] * 4, UNUSED]
    ours = tokenizer(folder, pieces, token_type=types, add_space_prefix=False)
    assert spelled(ours, "abcde") == ["<unk>", "bcde"]
    assert spelled(ours, "abcdabcd") == ["ab", "cd", "ab", "cd"]


WORDS = dict.fromkeys(f"{SPACE}thean", -8.0) | {
    f"{SPACE}the": -2.0,
    f"{SPACE}an": -2.5,
    "an": -3.0,
    SPACE + SPACE: -4.0,
}


@pytest.mark.parametrize(
    ("text", "adds", "merges", "wanted"),
    [
        ("the an", False, False, ["t", "h", "e", f"{SPACE}an"]),
        ("the an", True, False, [f"{SPACE}the", f"{SPACE}an"]),
        ("the an", False, True, [f"{SPACE}the", f"{SPACE}an"]),
        ("  the   an  ", True, True, [f"{SPACE}the", f"{SPACE}an"]),
        ("  the", True, False, [SPACE * 2, f"{SPACE}the"]),
        ("the  ", True, False, [f"{SPACE}the", SPACE * 2]),
        ("  ", True, False, [SPACE * 2]),
        ("  ", True, True, []),
    ],
)
def test_spaces_are_added_and_merged_as_the_file_says(
    folder: Path, text: str, adds: bool, merges: bool, wanted: list[str]
) -> None:
    ours = tokenizer(folder, WORDS, add_space_prefix=adds, remove_extra_whitespaces=merges)
    assert spelled(ours, text) == wanted


def test_end_is_marked_and_no_begin(folder: Path) -> None:
    ours = tokenizer(folder, WORDS)
    assert ours.encode("the", add_special=True)[-1] == ours.eos_id == 1
    assert len(ours.encode("the", add_special=True)) == 2


def test_text_never_becomes_a_special_or_unused_token(folder: Path) -> None:
    pieces = dict.fromkeys("</s>unk<ab", -9.0) | {"ab": -0.5}
    types = [*SPECIAL_TYPES, *[NORMAL] * (len(pieces) - 1), UNUSED]
    ours = tokenizer(folder, pieces, token_type=types, add_space_prefix=False)
    assert spelled(ours, "</s><unk>ab ") == [*"</s><unk>ab", "<unk>"]


def test_user_defined_piece_costs_nothing(folder: Path) -> None:
    """Found in normalized text too, where it wins over whatever is less than certain."""
    pieces = dict.fromkeys(["a", "b", SPACE], -0.25) | {f"b{SPACE}a": -50.0}
    types = [*SPECIAL_TYPES, NORMAL, NORMAL, NORMAL, USER_DEFINED]
    ours = tokenizer(folder, pieces, token_type=types, add_space_prefix=False)
    assert spelled(ours, "ab ab") == ["a", f"b{SPACE}a", "b"]


def test_missing_unknown_token_is_refused(folder: Path) -> None:
    types = [CONTROL, CONTROL, *[NORMAL] * (len(WORDS) + 1)]
    with pytest.raises(ModelFileError, match="needs one") as caught:
        tokenizer(folder, WORDS, token_type=types)
    assert caught.value.key == "tokenizer.ggml.unknown_token_id"


@pytest.mark.parametrize("unit", ["a", " ", "the ", "x", "\xe9"])
def test_time_is_linear_in_the_text(folder: Path, unit: str) -> None:
    ours = tokenizer(folder, WORDS, precompiled_charsmap=character_map({"\xe9": "e"}))
    text = unit * (2**15 // len(unit))
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        ours.encode(text)
        best = min(best, time.process_time() - started)
    assert best < 0.5


def character_map(rules: dict[str, str], *, wide: bool = False) -> bytes:
    """SentencePiece's format: a trie whose node for a prefix has its children at base ^ byte.

    Every node has a block of 256 units of its own, so that nothing ever collides. `wide` writes
    the offsets from a node to its base in units of 256, as offsets from 2^21 on have to be.
    """
    prefixes = sorted({rule.encode()[:n] for rule in rules for n in range(len(rule.encode()) + 1)})
    values = {rule.encode(): replacement for rule, replacement in rules.items()}
    units = [0] * (256 * (len(prefixes) + 1))
    bases: dict[bytes, int] = {}
    replacements = b""
    for place, prefix in enumerate(prefixes, start=1):
        index = bases[prefix[:-1]] ^ prefix[-1] if prefix else 0
        base = 256 * place + (index & 0xFF if wide else 0)
        bases[prefix] = base
        offset = (index ^ base) << 2 | 1 << 9 if wide else (index ^ base) << 10
        units[index] = offset | (prefix in values) << 8 | (prefix[-1] if prefix else 0)
        if prefix in values:
            units[base] = 1 << 31 | len(replacements)
            replacements += values[prefix].encode() + b"\0"
    return struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + replacements


def mapped(text: str, rules: dict[str, str]) -> str:
    result = ""
    while text:
        matches = [rule for rule in rules if text.startswith(rule)]
        rule = max(matches, key=lambda rule: len(rule.encode()), default=text[0])
        result += rules.get(rule, rule)
        text = text[len(rule) :]
    return result


characters = "ab e\xe9\u0301\u65e5\uff21\t\U0001f600"
rule_sets = st.dictionaries(
    st.text(characters, min_size=1, max_size=4),
    st.text("abXY \u65e5", max_size=3),
    min_size=1,
    max_size=8,
)


def test_longest_rule_of_the_character_map_wins(folder: Path) -> None:
    letters = dict.fromkeys(sorted({*characters, *"XY", SPACE, "\0"} - {" "}), -1.0)

    @settings(max_examples=200)
    @given(rules=rule_sets, text=st.text(characters + "\0", max_size=16), wide=st.booleans())
    @example(rules={"e\u0301": "X"}, text="aae\u0301ea", wide=False)
    @example(rules={"e\u0301": "X"}, text="aae\u0301ea", wide=True)
    @example(rules={"ab": "X"}, text="a\0bab", wide=False)
    def check(rules: dict[str, str], text: str, wide: bool) -> None:
        data = character_map(rules, wide=wide)
        ours = tokenizer(folder, letters, add_space_prefix=False, precompiled_charsmap=data)
        assert "".join(spelled(ours, text)) == mapped(text, rules).replace(" ", SPACE)

    check()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1\0", "a trie of 0 bytes does not fit a map of 2"),
        (struct.pack("<I", 2**32 - 1) + b"\0" * 8, "a trie of 4294967295 bytes does not fit"),
        (struct.pack("<II", 5, 0) + b"\0\0", "a trie of 5 bytes"),
        (character_map({"a": "b"})[:-1], "the last replacement has no end"),
        (struct.pack("<II", 4, 5 << 10) + b"x\0", "unit 4 is outside of the trie"),
    ],
)
def test_damaged_character_map_is_refused(folder: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        tokenizer(folder, WORDS, precompiled_charsmap=data)
    assert caught.value.key == "tokenizer.ggml.precompiled_charsmap"


def test_replacement_outside_of_the_character_map_is_refused(folder: Path) -> None:
    good = character_map({"\xe9": "b"})
    bad = good.replace(struct.pack("<I", 1 << 31), struct.pack("<I", 1 << 31 | 99))
    assert good != bad
    ours = tokenizer(folder, WORDS, precompiled_charsmap=bad)
    with pytest.raises(ModelFileError, match="a replacement at 99 is outside of the map"):
        ours.encode("\xe9")
