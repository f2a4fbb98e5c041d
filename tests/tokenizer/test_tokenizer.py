"""Special tokens, marks of begin and end, decoding, templates and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from vocabulary_files import (
    BYTE_CHARACTERS,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    write_vocabulary,
)

from rocmforge.errors import InvalidArgumentError, ModelFileError, UnsupportedError
from rocmforge.gguf import GGUFFile
from rocmforge.tokenizer import Tokenizer
from rocmforge.tokenizer.special_tokens import end_of_generation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vocabulary.gguf"


def byte_level(path: Path, special: dict[str, int], **values: object) -> Tokenizer:
    """Bytes 0 to 255, then special tokens with their types."""
    tokens = [*BYTE_CHARACTERS, *special]
    values = {
        "pre": "gpt-2",
        "merges": [],
        "token_type": [*[NORMAL] * 256, *special.values()],
    } | values
    return Tokenizer.from_gguf(write_vocabulary(path, "gpt2", tokens, **values))


SPECIAL = {"<bos>": CONTROL, "<end>": CONTROL, "<endless>": CONTROL, "<tool>": USER_DEFINED}
BOS, END, ENDLESS, TOOL = range(256, 260)
MARKS = {"bos_token_id": BOS, "eos_token_id": END, "add_bos_token": True}


def test_control_tokens_in_text_are_text_unless_asked(path: Path) -> None:
    ours = byte_level(path, SPECIAL)
    assert ours.encode("a<end>b") == [*b"a<end>b"]
    assert ours.encode("a<end>b", parse_special=True) == [ord("a"), END, ord("b")]


def test_user_defined_tokens_are_found_in_any_text(path: Path) -> None:
    ours = byte_level(path, SPECIAL)
    assert ours.encode("<tool>x<tool>") == [TOOL, ord("x"), TOOL]
    assert ours.encode("a <tool>\nb") == [*b"a ", TOOL, *b"\nb"]
    assert ours.encode("<tool><end>", parse_special=True) == [TOOL, END]


def test_leftmost_longest_special_token_wins(path: Path) -> None:
    special = {"<e": CONTROL, "<end>": CONTROL, "nd><end": CONTROL, "<end><": CONTROL}
    ours = byte_level(path, special)
    assert ours.encode("<end><end>", parse_special=True) == [259, *b"end>"]
    assert ours.encode("x<end>", parse_special=True) == [ord("x"), 257]


def test_many_special_tokens_nested_in_one_another_are_found(path: Path) -> None:
    special = {"x" * count: USER_DEFINED for count in range(2, 1500)}
    ours = byte_level(path, special)
    assert ours.encode("x" * 1499 + "y" + "x" * 7) == [256 + 1497, ord("y"), 256 + 5]


def test_marks_are_added_where_asked(path: Path) -> None:
    ours = byte_level(path, SPECIAL, **MARKS, add_eos_token=True)
    assert (ours.add_bos, ours.add_eos, ours.bos_id, ours.eos_id) == (True, True, BOS, END)
    assert ours.encode("a") == [ord("a")]
    assert ours.encode("a", add_special=True) == [BOS, ord("a"), END]
    assert ours.encode("", add_special=True) == [BOS, END]
    assert ours.encode_batch(["a", ""], add_special=True) == [[BOS, ord("a"), END], [BOS, END]]


def test_mark_that_the_text_brings_is_not_doubled(path: Path) -> None:
    ours = byte_level(path, SPECIAL, **MARKS)
    assert ours.encode("<bos>a", add_special=True, parse_special=True) == [BOS, ord("a")]
    assert ours.encode("<bos>a", add_special=True) == [BOS, *b"<bos>a"]
    assert ours.encode("<bos><bos>", add_special=True, parse_special=True) == [BOS, BOS]


@pytest.mark.parametrize("mark", ["bos", "eos"])
def test_mark_to_add_that_no_key_names_is_refused(path: Path, mark: str) -> None:
    with pytest.raises(ModelFileError, match=f"the {mark} token is to be added") as caught:
        byte_level(path, SPECIAL, **{f"add_{mark}_token": True})
    assert caught.value.key == f"tokenizer.ggml.add_{mark}_token"


def test_marks_of_the_pre_tokenizer_hold_unless_the_file_says_otherwise(path: Path) -> None:
    values = {"pre": "llama-bpe", "bos_token_id": BOS}
    assert byte_level(path, SPECIAL, **values).add_bos
    assert not byte_level(path, SPECIAL, **values, add_bos_token=False).add_bos
    assert not byte_level(path, SPECIAL, pre="llama-bpe").add_bos
    assert not byte_level(path, SPECIAL, bos_token_id=BOS).add_bos


def test_ids_that_the_file_does_not_name_are_none(path: Path) -> None:
    ours = byte_level(path, SPECIAL)
    assert ours.bos_id is None
    assert ours.eos_id is None
    assert ours.eog_ids == frozenset()


def test_decoding_leaves_out_control_tokens_or_spells_them(path: Path) -> None:
    ours = byte_level(path, SPECIAL | {"<unk>": UNKNOWN}, **MARKS)
    ids = [BOS, ord("a"), TOOL, END, 260]
    assert ours.decode(ids) == "a<tool>"
    assert ours.decode(ids, skip_special=False) == "<bos>a<tool><end><unk>"
    assert ours.special_ids == {BOS, END, ENDLESS, 260}


def test_bytes_that_are_no_text_are_replaced(path: Path) -> None:
    ours = byte_level(path, SPECIAL)
    assert ours.decode([0xE6, 0x97, 0xA5, 0xFF, ord("a"), 0xE6]) == "\u65e5\ufffda\ufffd"
    assert ours.token_bytes(0xE6) == b"\xe6"
    assert ours.token_bytes(END) == b"<end>"
    assert ours.token_text(0x20) == "\u0120"
    assert ours.vocab_size == 260


@pytest.mark.parametrize("id", [-1, 260, 2**40])
def test_id_outside_of_the_vocabulary_is_refused(path: Path, id: int) -> None:
    ours = byte_level(path, SPECIAL)
    message = f"token id {id} is outside of the vocabulary, 0 to 259"
    for use in (ours.token_bytes, ours.token_text, lambda id: ours.decode([id])):
        with pytest.raises(InvalidArgumentError, match=message):
            use(id)


def test_lone_surrogate_is_refused(path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"character 2 .* lone surrogate, U\+D83D"):
        byte_level(path, SPECIAL).encode("ab\ud83d")


def test_tokenizer_is_made_of_an_open_file_too(path: Path) -> None:
    byte_level(path, SPECIAL)
    with GGUFFile.open(path) as file:
        ours = Tokenizer.from_gguf(file)
    assert ours.encode("ab") == [*b"ab"]


ENDS = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "<|fim_pad|>"]


def test_tokens_known_by_text_end_a_generation_and_are_control_tokens(path: Path) -> None:
    """Though the file says they are normal, or user-defined, and so would parse them."""
    special = dict(
        zip([*ENDS, "<fim_prefix>", "<other>"], [NORMAL, USER_DEFINED] * 4, strict=False)
    )
    ours = byte_level(path, special, eos_token_id=262)
    assert ours.eog_ids == {256, 257, 258, 259, 260, 262}
    assert ours.special_ids == {256, 257, 258, 259, 260, 261}
    assert ours.encode("<|eot_id|>") == [*b"<|eot_id|>"]


def test_token_known_by_text_is_text_where_merges_spell_it(path: Path) -> None:
    special = dict.fromkeys(["</", "s>", "</s>"], NORMAL)
    ours = byte_level(path, special, merges=["< /", "s >", "</ s>"])
    assert ours.eog_ids == ours.special_ids == frozenset()
    marked = byte_level(path, special | {"</s>": CONTROL}, merges=["< /", "s >", "</ s>"])
    assert marked.eog_ids == marked.special_ids == {258}


def test_ends_named_by_the_file_are_ends(path: Path) -> None:
    names = ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"]
    values = {f"{name}_token_id": 250 + place for place, name in enumerate(names)}
    assert byte_level(path, SPECIAL, **values).eog_ids == {250, 251, 252, 253, 254, 255}


@pytest.mark.parametrize(
    ("texts", "ends"),
    [
        (["<|end|>", "<|return|>"], {0, 1}),
        (["<|end|>", "<|return|>", "<|call|>"], {1, 2}),
        (["<|end|>", "<|flush|>", "<|calls|>"], {1, 2}),
        (["<|end|>", "<|call|>"], {0, 1}),
        (["</s>", "<turn|>"], {0, 1}),
        (["</s>", "<|tool_response>"], {1}),
    ],
)
def test_closing_of_a_message_is_no_end_where_turns_have_several(
    texts: list[str], ends: set[int]
) -> None:
    assert end_of_generation({text: id for id, text in enumerate(texts)}, set()) == ends


def test_template_is_rendered_with_the_file_s_marks(path: Path) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}bot:{{ mood }}{% endif %}"
    )
    ours = byte_level(path, SPECIAL, **MARKS, **{"tokenizer.chat_template": template})
    messages = [{"role": "user", "content": "hi"}]
    assert ours.chat_template_source == template
    assert ours.apply_chat_template(messages, mood="fine") == "<bos>user: hi<end>bot:fine"
    assert ours.apply_chat_template(messages, add_generation_prompt=False) == "<bos>user: hi<end>"


def test_template_for_tools_is_taken_for_tools(path: Path) -> None:
    templates = {
        "tokenizer.chat_template": "plain{{ tools | length if tools else 0 }}",
        "tokenizer.chat_template.tool_use": "tools{{ tools | length }}",
    }
    ours = byte_level(path, SPECIAL, **templates)
    assert ours.named_chat_template_sources == {"tool_use": "tools{{ tools | length }}"}
    assert ours.apply_chat_template([]) == "plain0"
    assert ours.apply_chat_template([], tools=[{"name": "f"}]) == "tools1"


def test_file_without_template_says_so(path: Path) -> None:
    ours = byte_level(path, SPECIAL)
    assert ours.chat_template_source is None
    with pytest.raises(UnsupportedError, match="has no chat template"):
        ours.apply_chat_template([])


@pytest.mark.parametrize("model", ["rwkv", "plamo2", "gemma4", "no_vocab", "x"])
def test_unknown_kind_of_vocabulary_is_refused_by_name(path: Path, model: str) -> None:
    write_vocabulary(path, model, ["a"])
    message = f"the vocabulary kind '{model}' .* known are bert, gpt2, llama, t5"
    with pytest.raises(UnsupportedError, match=message):
        Tokenizer.from_gguf(path)


@pytest.mark.parametrize(
    ("model", "tokens", "key", "message"),
    [
        (None, ["a"], "model", "missing"),
        ("gpt2", None, "tokens", "missing"),
        ("gpt2", [], "tokens", "0 tokens are outside of 1 to"),
        ("gpt2", ["a", "b", "a"], "tokens", "tokens 0 and 2 are both 'a'"),
    ],
)
def test_tokens_that_are_missing_or_twice_are_refused(
    path: Path, model: str | None, tokens: list[str] | None, key: str, message: str
) -> None:
    write_vocabulary(path, model, tokens, pre="gpt-2", merges=[])
    with pytest.raises(ModelFileError, match=message) as caught:
        Tokenizer.from_gguf(path)
    assert caught.value.key == f"tokenizer.ggml.{key}"


def test_empty_tokens_are_kept_and_never_produced(path: Path) -> None:
    write_vocabulary(path, "gpt2", ["", *BYTE_CHARACTERS, ""], pre="gpt-2", merges=[])
    ours = Tokenizer.from_gguf(path)
    assert ours.vocab_size == 258
    assert ours.encode("a") == [1 + ord("a")]
    assert ours.token_bytes(0) == b""
