"""SentencePiece BPE (`llama`): merges by score over characters, bytes for what is no token."""

from __future__ import annotations

from typing import ClassVar

from rocmforge.tokenizer._score_merges import ScoreMerges
from rocmforge.tokenizer.text_model import SPACE
from rocmforge.tokenizer.vocabulary import PREFIX, DefaultIds, TokenType, Vocabulary, byte_value


class SentencePieceBPE:
    """Spaces are written U+2581; one goes in front of the text unless the file says otherwise."""

    default_ids: ClassVar = DefaultIds(bos=1, eos=2, unk=0)
    scored: ClassVar = True
    add_bos = True
    add_eos = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._tokens = vocabulary.tokens
        self._types = vocabulary.types
        self._byte_of = {
            id: byte_value(vocabulary.metadata, vocabulary.tokens[id])
            for id in vocabulary.of_type(TokenType.BYTE)
        }
        self.drops_leading_space = vocabulary.metadata.bool(PREFIX + "add_space_prefix", True)
        byte_ids = self._byte_ids(vocabulary)
        unk_id = -1 if vocabulary.unk_id is None else vocabulary.unk_id
        if not byte_ids and vocabulary.unk_id is None:
            message = "without byte tokens there has to be an unknown token"
            vocabulary.metadata.fail(PREFIX + "unknown_token_id", message)
        self._merges = ScoreMerges(_pieces(vocabulary), byte_ids, unk_id)

    def encode(self, text: str) -> list[int]:
        if self.drops_leading_space:
            text = " " + text
        return self._merges.encode(text.replace(" ", SPACE).encode())

    def token_bytes(self, id: int) -> bytes:
        if id in self._byte_of:
            return bytes([self._byte_of[id]])
        token = self._tokens[id]
        if self._types[id] == TokenType.NORMAL:
            token = token.replace(SPACE, " ")
        return token.encode()

    def _byte_ids(self, vocabulary: Vocabulary) -> list[int]:
        """The token of every byte; empty if the vocabulary has none."""
        ids = {byte: id for id, byte in self._byte_of.items()}
        if len(ids) not in (0, 256) or len(ids) != len(self._byte_of):
            message = f"{len(self._byte_of)} byte tokens for {len(ids)} bytes; all 256 or none"
            vocabulary.metadata.fail(PREFIX + "tokens", message)
        return [ids[byte] for byte in sorted(ids)]


def _pieces(vocabulary: Vocabulary) -> dict[bytes, tuple[int, float]]:
    """What text may merge into: no token that controls the model or stands for a byte."""
    apart = {TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE}
    return {
        token.encode(): (id, score)
        for id, (token, score, type_) in enumerate(
            zip(vocabulary.tokens, vocabulary.scores, vocabulary.types, strict=True)
        )
        if type_ not in apart and token
    }
