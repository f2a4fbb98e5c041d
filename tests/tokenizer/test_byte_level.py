"""Byte-level BPE against merging by rank said plainly, over a trained vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import published_splits
import pytest
from hypothesis import given, settings
from naive_tokenizers import byte_level_bpe
from texts import texts
from tokenizers import Tokenizer as HuggingFace
from tokenizers import models, pre_tokenizers, trainers
from vocabulary_files import BYTE_CHARACTERS, CONTROL, NORMAL, byte_level, write_vocabulary

from rocmforge.errors import ModelFileError, UnsupportedError
from rocmforge.tokenizer import Tokenizer

TRAINING = [
    "the cat sat on the mat, the hat that sat there is the cat's hat; there's a  rat in   the hat\n",
    "def f(x):\n    return x + 1\n\n    # 1234 12 345\t\tI'LL 'told\r\n",
    "\u65e5\u672c\u8a9e \u65e5\u672c \u0411\u0431\u0431 e\u0301e\u0301 \U0001f600\U0001f600 ABC Abc aBC  \n \n",
]


def trained() -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges of a byte-level vocabulary that has seen TRAINING."""
    tokenizer = HuggingFace(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING * 3, trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tokens, [(left, right) for left, right in merges]


TOKENS, MERGES = trained()
IDS = {token: id for id, token in enumerate(TOKENS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("byte_level")


def tokenizer(folder: Path, pre: str, tokens: list[str] = TOKENS, **values: object) -> Tokenizer:
    path = folder / "vocabulary.gguf"
    values = {"pre": pre, "merges": [f"{left} {right}" for left, right in MERGES]} | values
    return Tokenizer.from_gguf(write_vocabulary(path, "gpt2", tokens, **values))


@pytest.mark.parametrize(
    "pre", ["gpt-2", "llama-bpe", "qwen2", "tekken", "deepseek-v3", "superbpe"]
)
def test_ids_are_those_of_merging_by_rank(folder: Path, pre: str) -> None:
    ours = tokenizer(folder, pre)
    ignore = pre in ("llama-bpe", "tekken")

    @settings(max_examples=150)
    @given(texts)
    def check(text: str) -> None:
        wanted = byte_level_bpe(published_splits.split(pre, text), MERGES, IDS, ignore)
        assert ours.encode(text) == wanted
        assert ours.decode(wanted) == text

    check()


def test_every_byte_has_its_token(folder: Path) -> None:
    ours = tokenizer(folder, "gpt-2")
    for byte, character in enumerate(BYTE_CHARACTERS):
        assert ours.token_bytes(IDS[character]) == bytes([byte])


def test_piece_that_is_a_token_ignores_merges_where_the_model_does(folder: Path) -> None:
    tokens = [*TOKENS, "xyzzy"]
    spelled = [IDS[letter] for letter in "xyzzy"]
    assert tokenizer(folder, "qwen2", tokens).encode("xyzzy") == spelled
    assert tokenizer(folder, "llama-bpe", tokens).encode("xyzzy") == [len(TOKENS)]


def test_text_never_becomes_a_control_token(folder: Path) -> None:
    """Neither by merges nor by being a piece of its own."""
    tokens = [*TOKENS, "xyzzy", "xy"]
    types = [NORMAL] * len(TOKENS) + [CONTROL] * 2
    merges = [f"{left} {right}" for left, right in [*MERGES, ("x", "y")]]
    ours = tokenizer(folder, "llama-bpe", tokens, token_type=types, merges=merges)
    assert ours.encode("xyzzy") == [IDS[letter] for letter in "xyzzy"]
    assert ours.encode("xyzzy", parse_special=True) == [len(TOKENS)]


def test_character_without_all_its_bytes_keeps_the_others(folder: Path) -> None:
    """As the models' own tokenizers do, there being no unknown token."""
    without = [token for token in TOKENS if token != BYTE_CHARACTERS[0x9F]]
    kept = set(without)
    merges = [f"{left} {right}" for left, right in MERGES if {left, right, left + right} <= kept]
    ours = tokenizer(folder, "gpt-2", without, merges=merges)
    ids = ours.encode("\U0001f600")
    assert b"".join(ours.token_bytes(id) for id in ids) == b"\xf0\x98\x80"


def test_missing_pre_tokenizer_is_refused(folder: Path) -> None:
    path = write_vocabulary(folder / "no_pre.gguf", "gpt2", TOKENS, merges=["t h"])
    with pytest.raises(UnsupportedError, match=r"no tokenizer\.ggml\.pre .* set it to one of"):
        Tokenizer.from_gguf(path)


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        (["t h", "t h"], "a merge is listed twice"),
        (["t h", "th"], r"merge 1 \('th', ''\) needs '', which is no token"),
        (["h \u65e5"], r"merge 0 .* needs '\u65e5', which is no token"),
        ([" h"], "merge 0 .* needs ''"),
        (["t h e"], "needs 'h e', which is no token"),
    ],
)
def test_merges_that_do_not_fit_the_tokens_are_refused(
    folder: Path, merges: list[str], message: str
) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        tokenizer(folder, "gpt-2", merges=merges)
    assert caught.value.key == "tokenizer.ggml.merges"


def test_missing_merges_are_refused(folder: Path) -> None:
    path = write_vocabulary(folder / "none.gguf", "gpt2", TOKENS, pre="gpt-2")
    with pytest.raises(ModelFileError, match=r"needs merges.*tokenizer\.ggml\.merges"):
        Tokenizer.from_gguf(path)


def test_token_that_is_no_byte_text_is_given_out_as_it_is(folder: Path) -> None:
    ours = tokenizer(folder, "gpt-2", [*TOKENS, "\u65e5", byte_level("\u65e5")[:2] + " "])
    assert ours.decode([len(TOKENS)]) == "\u65e5"
    assert ours.token_bytes(len(TOKENS) + 1) == (byte_level("\u65e5")[:2] + " ").encode()
