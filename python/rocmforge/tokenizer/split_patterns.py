"""Pieces of the split patterns of pre_tokenizer_table.py, in Oniguruma's syntax.

Oniguruma backtracks, keeps a frame for every step it may take back and gives up, by a panic, after
ten million steps back in one match. So where the plain pattern would take back or rescan a whole
run of characters, there is an equivalent here that does not: possessive loops, and look-behinds
that let only the first position of a run try.

Characters outside ASCII are code points here, as some of them turn into others when a tool
normalizes the source.
"""

from __future__ import annotations

from typing import Final

# \s*[\r\n]+ : white space up to the last line end of its run. Nothing in front of a match is
# horizontal space: the search that took it saw no line end in the rest of the run.
LINES: Final = r"(?<![^\S\r\n])(?:[^\S\r\n]*+[\r\n]++)++"
SPACES: Final = LINES + r"|\s+(?!\S)|\s+"
CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
SYMBOLS: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*"


def cased_word(suffix: str, limit: str = "") -> str:
    """A word as upper-case letters, then lower-case ones; letters without case count as both.

    `[^\\r\\n\\p{L}\\p{N}]?U*L+suffix|[^\\r\\n\\p{L}\\p{N}]?U+L*suffix` with U = Lu Lt Lm Lo M and
    L = Ll Lm Lo M. The first alternative ends behind the lower-case letters that follow U*, or,
    where none follow, behind the last letter of U* that L has too. `limit` narrows every class.
    """
    upper = rf"[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}{limit}]"
    lower = rf"[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}{limit}]"
    both = rf"[\p{{Lm}}\p{{Lo}}\p{{M}}{limit}]"
    lead = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{lead}(?:{upper}*+\p{{Ll}}{lower}*+|(?:[\p{{Lu}}\p{{Lt}}]*+{both}++)++){suffix}"
        rf"|{lead}{upper}++{lower}*+{suffix}"
    )


NOT_HAN: Final = r"&&[^\p{Han}]"
GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3: Final = rf"{CONTRACTION}|{WORD}|\p{{N}}{{1,3}}|{SYMBOLS}|{SPACES}"
QWEN2: Final = rf"{CONTRACTION}|{WORD}|\p{{N}}|{SYMBOLS}|{SPACES}"
GPT4O: Final = (
    rf"{cased_word(CONTRACTION + '?')}|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
)
BLOOM: Final = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+"
ASCII_WORD: Final = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
KANA_HAN: Final = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"
DEEPSEEK3: Final = (
    rf"{ASCII_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"
)
# \p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})): threes, counted from the end of the run.
THREES_FROM_THE_RIGHT: Final = (r"\p{N}+", r"\A\p{N}{1,2}(?=(?:\p{N}{3})++\z)", r"\p{N}{3}")
LATIN_TO_DESERET: Final = (
    r"["
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}"
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}"
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}"
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}"
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}"
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}"
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}"
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}"
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}"
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}"
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}"
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}"
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}"
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}"
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}"
    r"\x{1E900}-\x{1E943}"
    r"]"
)
EAST_ASIAN: Final = (
    r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{F900}-\x{FAFF}\x{3040}-\x{309F}\x{30A0}-\x{30FF}"
    r"\x{FF65}-\x{FF9F}\x{2F00}-\x{2FDF}\x{E40}-\x{E7F}\x{E80}-\x{EFF}\x{1780}-\x{17FF}"
    r"\x{1000}-\x{109F}\x{AA60}-\x{AA7F}\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]"
)
QWEN35: Final = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
)
BAILING_MOE: Final = (
    rf"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{{L}}\p{{N}}]?+\p{{L}}+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*|{SPACES}"
)
EXAONE_MOE: Final = (
    rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+"
    rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]?|{SPACES}"
)
JAIS2: Final = (
    rf"{CONTRACTION}|{WORD}|\p{{N}}{{1,3}}|{SYMBOLS}|{LINES}"
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)"
    r"|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"
)
KIMI_K2: Final = (
    rf"\p{{Han}}+|{cased_word(CONTRACTION + '?', limit=NOT_HAN)}"
    rf"|\p{{N}}{{1,3}}|{SYMBOLS}|{SPACES}"
)
YOUTU_SCRIPTS: Final = (
    r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+"
    r"|[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}"
    r"\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+"
    r"|[\x{3105}-\x{312F}]+"
    rf"|{KANA_HAN}"
)
YOUTU: Final = (
    rf"{cased_word(CONTRACTION + '?')}|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
)
SPARK: Final = (
    rf"{ASCII_WORD}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
)
TEKKEN: Final = rf"{cased_word('')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
DEEPSEEK_SYMBOLS: Final = (
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+"
)
DEEPSEEK_SCRIPTS: Final = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+"
