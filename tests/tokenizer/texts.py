"""Texts that tell tokenizers apart."""

from __future__ import annotations

from hypothesis import strategies as st

# Letters with and without case, title case, modifiers, combining marks, digits of several scripts,
# numbers that are no digits, every kind of space and line end, punctuation, symbols, emoji with
# joiners and skin tones, control characters, private use, and what the tables name in particular.
CHARACTERS = (
    "aAbBsStTzZ\u017f\u0130\u0131\xe9\xc9\xdf\u01c5\u02b0\u3005\u0301\u0308\u0651\u093e\u20dd"
    "0123456789\u0663\u0664\u0967\uff11\u2160\xbd\u2488"
    " \t\n\r\v\f\x1c\x85\xa0\u1680\u2003\u2028\u2029\u200b\u3000"
    "'.,!?;:-_()[]{}<>|/\\\"`~@#$%^&*+=\u2019\u2026\u3002\u060c\u0964\uff01\uff0c\u2014\u20ac\u221e"
    "\u65e5\u672c\u8a9e\u9fa5\uf900\u3042\u30ab\uff76\u3105\uac00\u1100\u1780\u0e01\u0e40\u0628"
    "\u0915\u0411\u0431\u03a9\u2126\u1e9e\ufb01"
    "\U0001f600\U0001f469\u200d\U0001f3fd\ufe0f\u2764\U0001f1e9\U00010400\U00020000"
    "\x00\x01\x7f\ufffd\ue000\ufeff"
)

_PARTS = [
    *("'s", "'LL", "'\u017f", " the", " a", "  ", "    ", "\n\n", "\r\n", " \n", "\n ", "\t\t"),
    *("1234567", "12", "345", "\u0663\u0664\u0665", "AbC", "ABC", "abc", "\u65e5\u672c", "e\u0301"),
    *("...", "!!\n", "/*\n", "<sentinel:12>", "IMGIMGAZ", "<|im_end|>", "<s>", "</s>", "<0x0A>"),
    *("\u2581", "[UNK]", "##a", "\u216012345", "1234\u2160", "!\r\n\n", "./\n/", "a b\u0301 c"),
]

texts = st.lists(st.sampled_from([*CHARACTERS, *_PARTS]), max_size=24).map("".join)

# Units to repeat and texts to end with: such runs make a careless pattern or merge loop quadratic.
UNITS = [
    *(" ", "a", "A", "\n", " \n", "1", "!", "\u65e5", "\u0301", "aA", "a ", "\u0663", "\u3000"),
    *(
        "\t",
        "12a",
        "' ",
        "Aa",
        "\u2160",
        "/",
        "\r\n",
        "ab ",
        "\U0001f600",
        "_",
        "\u65e5A",
        "\xa0!",
        "!\n",
        "1\u2160",
    ),
]
ENDS = ["", "a", "1", "\n"]
