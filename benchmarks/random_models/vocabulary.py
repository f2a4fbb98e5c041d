"""A byte-level BPE vocabulary of any size: every token above the bytes is one merge of two others.

The tokens mean nothing, but they are as many as in the real vocabulary, so that loading them
costs what it costs there.
"""

from __future__ import annotations

from itertools import islice

from gguf import GGUFWriter, TokenType

NUM_BYTES = 256


def add_vocabulary(writer: GGUFWriter, pre_tokenizer: str, size: int, num_special: int) -> None:
    """`size` tokens; the last `num_special`, two at least, are control tokens: BOS, EOS, ..."""
    num_ordinary = size - num_special
    if num_special < 2 or num_ordinary < NUM_BYTES:
        message = f"{size} tokens, {num_special} of them special: 256 bytes, BOS and EOS must fit"
        raise ValueError(message)
    letters = _byte_letters()
    pairs = [(first, second) for first in letters for second in letters]
    triples = ((first + second, third) for first, second in pairs for third in letters)
    merges = pairs[: num_ordinary - NUM_BYTES]
    merges += islice(triples, num_ordinary - NUM_BYTES - len(merges))
    specials = ["<|begin|>", "<|end|>", *(f"<|reserved_{i}|>" for i in range(num_special - 2))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list([*letters, *map("".join, merges), *specials])
    writer.add_token_types([TokenType.NORMAL] * num_ordinary + [TokenType.CONTROL] * num_special)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(num_ordinary)
    writer.add_eos_token_id(num_ordinary + 1)
    writer.add_add_bos_token(pre_tokenizer == "llama-bpe")


def _byte_letters() -> list[str]:
    """GPT-2's letter for each byte: itself where it prints, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x100 + NUM_BYTES))
    return [chr(byte if byte in printable else next(others)) for byte in range(NUM_BYTES)]
