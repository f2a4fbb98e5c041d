"""Vocabularies of a few hundred tokens, written as GGUF metadata: text goes in and out."""

from __future__ import annotations

from itertools import product

from gguf import GGUFWriter, TokenType

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>")
SMALLEST = 320  # 256 bytes, the specials and some merges
COMMON = "etaoinshrdlu"


def write_vocabulary(writer: GGUFWriter, kind: str, size: int) -> None:
    """Adds `size` tokens of `kind`: "llama-bpe" or "qwen2" (byte-level BPE), "spm" or "wordpiece".

    All but the last come with a chat template.
    """
    if size < SMALLEST:
        message = f"a vocabulary needs at least {SMALLEST} tokens, not {size}"
        raise ValueError(message)
    if kind == "wordpiece":
        _write_wordpiece(writer, size)
        return
    if kind == "spm":
        _write_spm(writer, size)
    else:
        _write_bpe(writer, kind, size)
    writer.add_chat_template(CHAT_TEMPLATE)


def _write_bpe(writer: GGUFWriter, pre: str, size: int) -> None:
    alphabet = _byte_letters()
    tokens = sorted(alphabet.values()) + list(SPECIALS)
    types = [TokenType.NORMAL] * 256 + [TokenType.CONTROL] * len(SPECIALS)
    merges = _merges(alphabet[ord(" ")])[: size - len(tokens)]
    tokens += ["".join(pair) for pair in merges]
    types += [TokenType.NORMAL] * len(merges)
    _pad(tokens, types, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index("<|bos|>"))
    writer.add_eos_token_id(tokens.index("<|eos|>"))
    writer.add_add_bos_token(pre == "llama-bpe")


def _write_spm(writer: GGUFWriter, size: int) -> None:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256
    space = "\u2581"
    pieces = [space, *map(chr, range(ord("a"), ord("z") + 1)), *map("".join, _merges(space))]
    pieces = pieces[: size - len(tokens)]
    scores = [0.0] * len(tokens) + [-1.0 - index for index in range(len(pieces))]
    tokens += pieces
    types += [TokenType.NORMAL] * len(pieces)
    _pad(tokens, types, size)
    scores += [-10000.0] * (size - len(scores))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(True)


def _write_wordpiece(writer: GGUFWriter, size: int) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    types = [TokenType.CONTROL] * len(tokens)
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"\u2581{letter}" for letter in [*letters, ".", ","])]
    pieces += map("".join, product(COMMON, repeat=2))
    tokens += pieces
    types += [TokenType.NORMAL] * len(pieces)
    _pad(tokens, types, size)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(2)


def _pad(tokens: list[str], types: list[TokenType], size: int) -> None:
    for number in range(size - len(tokens)):
        tokens.append(f"<unused{number}>")
        types.append(TokenType.UNUSED)


def _merges(space: str) -> list[tuple[str, str]]:
    """Pairs of frequent letters, of a space and a letter, then words of three: 314 merges."""
    pairs = list(product(COMMON, repeat=2))
    starts = [(space, chr(letter)) for letter in range(ord("a"), ord("z") + 1)]
    triples = [(first + second, third) for (first, second), third in product(pairs[:12], COMMON)]
    return pairs + starts + triples


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where it prints, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        letters.setdefault(byte, chr(0x100 + len(letters) - len(printable)))
    return letters
