"""The pre-tokenizers of byte-level BPE vocabularies: `tokenizer.ggml.pre` -> patterns and flags.

A pre-tokenizer cuts the text into pieces that merges never cross. Its patterns run one after the
other, each over the pieces the one before left; what a pattern matches becomes a piece of its own,
and so does what lies between two matches.

Names and flags are those llama.cpp knows (src/llama-vocab.cpp). The patterns are those of the
models' own tokenizer.json where llama.cpp cites them: its C++ regex engine lacks properties such as
\\p{Lu}, possessive quantifiers and Unicode case folding, and it approximates what needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tokenizers import Regex, pre_tokenizers

from rocmforge.errors import UnsupportedError
from rocmforge.tokenizer.split_patterns import (
    BAILING_MOE,
    BLOOM,
    CONTRACTION,
    DEEPSEEK3,
    DEEPSEEK_SCRIPTS,
    DEEPSEEK_SYMBOLS,
    EAST_ASIAN,
    EXAONE_MOE,
    GPT2,
    GPT4O,
    JAIS2,
    KANA_HAN,
    KIMI_K2,
    LATIN_TO_DESERET,
    LLAMA3,
    QWEN2,
    QWEN35,
    SPACES,
    SPARK,
    SYMBOLS,
    TEKKEN,
    THREES_FROM_THE_RIGHT,
    WORD,
    YOUTU,
    YOUTU_SCRIPTS,
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """`proven` holds the names of which a real vocabulary is tested against its own tokenizer."""

    names: tuple[str, ...]
    splits: tuple[str | MergeLeft, ...]
    proven: tuple[str, ...] = ()
    ignore_merges: bool = False  # a piece that is a token is that token, whatever the merges say
    add_bos: bool = False  # unless the file says otherwise


@dataclass(frozen=True, slots=True)
class MergeLeft:
    """A pattern whose match, possibly empty, ends the piece on its left."""

    pattern: str


_TABLE: Final = (
    PreTokenizer(
        ("default",),
        (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    ),
    PreTokenizer(
        (
            *("gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de"),
            *("a.x-4.0", "mellum", "modern-bert", "jina-v1-en", "jina-v2-code", "roberta-bpe"),
            *("mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling"),
        ),
        (GPT2,),
        proven=("gpt-2",),
    ),
    PreTokenizer(
        (
            *("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"),
            "mellum2",
        ),
        (r"\p{N}", GPT2),
    ),
    PreTokenizer(
        (
            *("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0"),
            *("lfm2", "jina-v5-nano"),
        ),
        (LLAMA3,),
        proven=("llama-bpe",),
        ignore_merges=True,
        add_bos=True,
    ),
    PreTokenizer(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), (LLAMA3,)),
    PreTokenizer(
        (
            *("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan"),
            *("solar-open", "grok-2"),
        ),
        (QWEN2,),
        proven=("qwen2",),
    ),
    PreTokenizer(("qwen35",), (QWEN35,)),
    PreTokenizer(("ufakzeka",), (rf"{WORD}|\p{{N}}|{SYMBOLS}|{SPACES}",)),
    PreTokenizer(("laguna",), (r"[^\n]+|[\n]+", QWEN2)),
    PreTokenizer(
        ("minicpm5",),
        (r"\p{N}{1,3}", rf"{CONTRACTION}|{WORD}|\p{{N}}+|{SYMBOLS}|{SPACES}"),
        ignore_merges=True,
    ),
    PreTokenizer(
        ("seed-coder",),
        (rf"{CONTRACTION}|{WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}",),
    ),
    PreTokenizer(("bailingmoe", "bailingmoe2", "llada-moe"), (BAILING_MOE,)),
    PreTokenizer(("exaone-moe",), (EXAONE_MOE,)),
    PreTokenizer(("jais-2",), (JAIS2,)),
    PreTokenizer(("tekken",), (TEKKEN,), ignore_merges=True, add_bos=True),
    PreTokenizer(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), (GPT4O,)),
    PreTokenizer(("granite-embed-multi-97m",), (GPT4O,), ignore_merges=True),
    PreTokenizer(
        ("tiny_aya", "cohere2moe"),
        # \d{1,3}(?=(?:\d{3})*\b): threes from the end of a run of digits that ends a word.
        (r"(?<!\d)\d++(?!\w)", r"\A\d{1,2}(?=(?:\d{3})++\z)", GPT4O),
    ),
    PreTokenizer(("kimi-k2",), (KIMI_K2,)),
    PreTokenizer(("youtu",), (YOUTU_SCRIPTS, YOUTU), ignore_merges=True),
    PreTokenizer(
        ("falcon",),
        (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"),
        proven=("falcon",),
    ),
    PreTokenizer(("poro-chat", "bloom", "gpt3-finnish"), (BLOOM,)),
    PreTokenizer(("viking",), (BLOOM, r"\p{N}")),
    PreTokenizer(
        ("deepseek-llm",),
        (
            r"[\r\n]",
            rf"\s?{LATIN_TO_DESERET}+",
            DEEPSEEK_SYMBOLS,
            r"(?<!\s)\s++\z",  # \s+$
            DEEPSEEK_SCRIPTS,
            r"\p{N}+",
        ),
    ),
    PreTokenizer(
        ("deepseek-coder",),
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_SCRIPTS, r"\p{N}"),
    ),
    PreTokenizer(
        ("deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"),
        (r"\p{N}{1,3}", KANA_HAN, DEEPSEEK3),
    ),
    PreTokenizer(
        ("spark2_5",),
        (
            r"\p{N}{1,3}",
            KANA_HAN,
            SPARK,
            r"\p{N}",
        ),
    ),
    PreTokenizer(
        ("afmoe",),
        (
            *THREES_FROM_THE_RIGHT,
            EAST_ASIAN + "+",
            DEEPSEEK3,
        ),
    ),
    PreTokenizer(
        ("superbpe",),
        # \p{N}+, then a cut at every (?=(\d{3})+(?!\d)): the first of a run, then every third.
        (
            r"\p{N}+",
            MergeLeft(r"(?<!\d)\d{0,2}(?=(?:\d{3})++(?!\d))"),
            r"\d{3}(?=\d{3})",
        ),
    ),
    PreTokenizer(
        ("chameleon",),
        (
            r"<sentinel:[0-9]+>",
            r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ),
        add_bos=True,
    ),
)

_BY_NAME: Final = {name: entry for entry in _TABLE for name in entry.names}

# llama.cpp knows these too, but their vocabularies are not byte-level.
NOT_BYTE_LEVEL: Final = ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace")


def known() -> dict[str, bool]:
    """Every known name, and whether a real vocabulary of that name has proven its entry exact."""
    return {name: name in entry.proven for name, entry in sorted(_BY_NAME.items())}


def find(name: str) -> PreTokenizer:
    """The entry of a `tokenizer.ggml.pre`; UnsupportedError for one that is not in the table."""
    entry = _BY_NAME.get(name)
    if entry is None:
        why = "is not byte-level BPE" if name in NOT_BYTE_LEVEL else "is unknown"
        msg = f"the pre-tokenizer {name!r} {why}; known are {', '.join(sorted(_BY_NAME))}"
        raise UnsupportedError(msg)
    return entry


def build(entry: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """The splits of an entry, then the mapping of bytes to the characters tokens are written in."""
    steps: list[pre_tokenizers.PreTokenizer] = []
    behavior: Literal["isolated", "merged_with_previous"]
    for split in entry.splits:
        if isinstance(split, MergeLeft):
            pattern, behavior = split.pattern, "merged_with_previous"
        else:
            pattern, behavior = split, "isolated"
        steps.append(pre_tokenizers.Split(Regex(pattern), behavior))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    return pre_tokenizers.Sequence(steps)
