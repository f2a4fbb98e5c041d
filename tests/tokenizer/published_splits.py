"""The split patterns as the models publish them, run by another regex engine.

Taken from the tokenizer.json files as llama.cpp cites them, and from llama.cpp where it cites none.
They backtrack over whole runs, so they are for short texts.
"""

from __future__ import annotations

import regex

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD = r"[^\r\n\p{L}\p{N}]?"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{TAIL}"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    rf"{LEAD}{UPPER}*{LOWER}+{CONTRACTION}?|{LEAD}{UPPER}+{LOWER}*{CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{TAIL}"
)
TEKKEN = GPT4O.replace(CONTRACTION + "?", "").replace(r"\p{N}{1,3}", r"\p{N}")
YOUTU = GPT4O.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
ASCII_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
DEEPSEEK3 = (
    rf"{ASCII_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{TAIL}"
)
KANA_HAN = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
HAN_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
NOT_HAN = r"&&[^\p{Han}]]"
KIMI = r"[\p{Han}]+|" + GPT4O.replace("/", "").replace(UPPER, UPPER[:-1] + NOT_HAN).replace(
    LOWER, LOWER[:-1] + NOT_HAN
)

GPT2_NAMES = (
    "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum "
    "modern-bert jina-v1-en jina-v2-code roberta-bpe mpt olmo jais exaone4 trillion "
    "granite-docling"
)
STARCODER_NAMES = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"
LLAMA3_NAMES = (
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx "
    "smaug-bpe glm4 chatglm-bpe"
)
QWEN2_NAMES = "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2"

PUBLISHED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("default",): (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"),
    tuple(GPT2_NAMES.split()): (GPT2,),
    tuple(STARCODER_NAMES.split()): (
        r"\p{N}",
        GPT2,
    ),
    tuple(LLAMA3_NAMES.split()): (LLAMA3,),
    tuple(QWEN2_NAMES.split()): (QWEN2,),
    ("qwen35",): (
        (
            rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{TAIL}"
        ),
    ),
    ("ufakzeka",): (QWEN2.removeprefix(CONTRACTION + "|"),),
    ("laguna",): (r"[^\n]+|[\n]+", QWEN2),
    ("minicpm5",): (r"\p{N}{1,3}", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")),
    ("seed-coder",): (
        (
            rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}"
            rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{TAIL}"
        ),
    ),
    ("bailingmoe", "bailingmoe2", "llada-moe"): (
        (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
            r"|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
    ),
    ("exaone-moe",): (
        (
            rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
        ),
    ),
    ("jais-2",): (
        LLAMA3.replace(
            r"\s+(?!\S)|\s+",
            "".join(rf"\s{{{2**n}}}(?!\S)|" for n in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}",
        ),
    ),
    ("tekken",): (TEKKEN,),
    ("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "granite-embed-multi-97m"): (GPT4O,),
    ("tiny_aya", "cohere2moe"): (r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O),
    ("kimi-k2",): (KIMI,),
    ("youtu",): (
        (
            "[\uac00-\ud7a3\u3131-\u318e]+"
            "|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+"
            f"|[\u3105-\u312f]+|{KANA_HAN}"
        ),
        YOUTU,
    ),
    ("falcon",): (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"),
    ("poro-chat", "bloom", "gpt3-finnish"): (BLOOM,),
    ("viking",): (BLOOM, r"\p{N}"),
    ("deepseek-coder",): (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_HANGUL, r"\p{N}"),
    ("deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"): (
        r"\p{N}{1,3}",
        KANA_HAN,
        DEEPSEEK3,
    ),
    ("spark2_5",): (
        r"\p{N}{1,3}",
        KANA_HAN,
        (
            rf"{ASCII_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
            r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
        ),
        r"\p{N}",
    ),
    ("afmoe",): (
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
        (
            "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
            "\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
            "\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
        ),
        DEEPSEEK3,
    ),
    ("superbpe",): (r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    ("chameleon",): (
        r"<sentinel:[0-9]+>",
        r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
        r"([\t\n]|    |  )",
        r"\p{N}",
        r"[\p{P}!-/:-@\[-`{-~]",
        GPT2,
    ),
    ("deepseek-llm",): (
        r"[\r\n]",
        (
            "\\s?[A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
            "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"
            "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5"
            "\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
            "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
            "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3"
            "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115"
            "\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
            "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
            "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
            "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
            "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
            "\U000118a0-\U000118df\U0001e900-\U0001e943]+"
        ),
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+$",
        HAN_HANGUL,
        r"\p{N}+",
    ),
}

BY_NAME = {name: patterns for names, patterns in PUBLISHED.items() for name in names}


def split(name: str, text: str) -> list[str]:
    """The pieces of `text`: each pattern in turn isolates its matches in every piece so far."""
    flags = regex.VERSION1 if name == "kimi-k2" else regex.VERSION0
    pieces = [text] if text else []
    for pattern in BY_NAME[name]:
        compiled = regex.compile(pattern, flags)
        pieces = [part for piece in pieces for part in _isolate(compiled, piece)]
    return pieces


def _isolate(pattern: regex.Pattern[str], piece: str) -> list[str]:
    parts = []
    end = 0
    for match in pattern.finditer(piece):
        parts += [piece[end : match.start()], match[0]]
        end = match.end()
    return [part for part in [*parts, piece[end:]] if part]
