from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from rocmforge.tokenizer import Tokenizer


def test_ids_and_pieces_put_the_text_together_again(run: Any, story_model: Path) -> None:
    result = run("tokenize", "--json", "Once upon a time").json
    assert set(result) == {"token_ids", "tokens"}
    assert "".join(result["tokens"]) == "Once upon a time"
    assert result["token_ids"] == Tokenizer.from_gguf(story_model).encode("Once upon a time")


def test_special_tokens_are_text_unless_asked_for(run: Any, story_model: Path) -> None:
    tokenizer = Tokenizer.from_gguf(story_model)
    plain = run("tokenize", "--json", "a<|im_end|>").json
    special = run("tokenize", "--json", "--special", "a<|im_end|>").json
    assert len(plain["token_ids"]) > 3
    assert special["tokens"] == ["<|begin_of_text|>", "a", "<|im_end|>"]
    assert special["token_ids"][0] == tokenizer.bos_id


def test_ids_alone_and_lines_for_reading(run: Any, story_model: Path) -> None:
    ids = run("tokenize", "--ids", "the cat").out
    assert ids == " ".join(map(str, Tokenizer.from_gguf(story_model).encode("the cat"))) + "\n"
    assert run("tokenize", "the").out.split() == [ids.split()[0], "'the'"]


def test_a_dash_reads_stdin(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\n".encode())))
    assert run("tokenize", "-", "--json").json == run("tokenize", "é\n", "--json").json


def test_stdin_that_is_not_text_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    ran = run("tokenize", "-")
    assert ran.exit_code == 2
    assert "0xff at offset 2" in ran.err


def test_a_model_of_the_callers_is_used(run: Any, tiny_model: Path) -> None:
    result = run("tokenize", "--model", tiny_model, "--json", "there is").json
    assert result["token_ids"] == Tokenizer.from_gguf(tiny_model).encode("there is")
