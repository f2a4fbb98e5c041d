"""WordPiece (`bert`): the longest piece at each place of a word, words cut as BERT does.

The file writes a token that begins a word with U+2581 in front and one that continues a word as it
is; BERT's own vocabulary, which the library wants, marks the latter with ## instead.
"""

from __future__ import annotations

from typing import ClassVar, Final

from tokenizers import Tokenizer, models, normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer

from rocmforge.tokenizer.text_model import SPACE, encode_with
from rocmforge.tokenizer.vocabulary import PREFIX, DefaultIds, TokenType, Vocabulary

# A longer word is unknown, as in BERT's own tokenizer.
_MAX_WORD: Final = 100


class WordPiece:
    default_ids: ClassVar = DefaultIds(bos=101, eos=102, unk=100)
    scored: ClassVar = False
    add_bos = True
    add_eos = True
    drops_leading_space = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        metadata = vocabulary.metadata
        if vocabulary.unk_id is None:
            metadata.fail(PREFIX + "unknown_token_id", "a WordPiece vocabulary needs one")
        self._tokens = vocabulary.tokens
        self._types = vocabulary.types
        lowercase = metadata.bool(PREFIX + "normalizer.lowercase", True)
        strip_accents = metadata.bool(PREFIX + "normalizer.strip_accents", lowercase)
        self._tokenizer = Tokenizer(
            models.WordPiece(
                _pieces(vocabulary, vocabulary.unk_id),
                unk_token=vocabulary.tokens[vocabulary.unk_id],
                max_input_chars_per_word=_MAX_WORD,
                continuing_subword_prefix="##",
            )
        )
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=True,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
        self._tokenizer.pre_tokenizer = BertPreTokenizer()

    def encode(self, text: str) -> list[int]:
        return encode_with(self._tokenizer, text)

    def token_bytes(self, id: int) -> bytes:
        token = self._tokens[id]
        if self._types[id] == TokenType.NORMAL and token.startswith(SPACE):
            token = " " + token[len(SPACE) :]
        return token.encode()


def _pieces(vocabulary: Vocabulary, unk_id: int) -> dict[str, int]:
    """The pieces in BERT's spelling, control tokens but the unknown one left out."""
    pieces = {vocabulary.tokens[unk_id]: unk_id}
    for token, id in vocabulary.ids.items():
        if vocabulary.types[id] in (TokenType.NORMAL, TokenType.USER_DEFINED):
            spelling = token[len(SPACE) :] if token.startswith(SPACE) else "##" + token
            if pieces.setdefault(spelling, id) != id:
                message = f"tokens {pieces[spelling]} and {id} are both {spelling!r}"
                vocabulary.metadata.fail(PREFIX + "tokens", message)
    return pieces
