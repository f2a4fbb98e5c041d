"""The public tokenizer: special tokens, begin and end marks, decoding and chat templates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rocmforge.errors import InvalidArgumentError, UnsupportedError
from rocmforge.gguf import GGUFFile, Metadata
from rocmforge.tokenizer.byte_level import ByteLevelBPE
from rocmforge.tokenizer.chat_guard import ChatGuard
from rocmforge.tokenizer.chat_template import ChatTemplate
from rocmforge.tokenizer.sentencepiece import SentencePieceBPE
from rocmforge.tokenizer.special_splitter import SpecialSplitter, check_text
from rocmforge.tokenizer.text_model import TextModel
from rocmforge.tokenizer.unigram import Unigram
from rocmforge.tokenizer.vocabulary import PREFIX, TokenType, read_vocabulary
from rocmforge.tokenizer.wordpiece import WordPiece

_TEMPLATE_KEY: Final = "tokenizer.chat_template"

_MODELS: Final[dict[str, type[TextModel]]] = {
    "bert": WordPiece,
    "gpt2": ByteLevelBPE,
    "llama": SentencePieceBPE,
    "t5": Unigram,
}


class Tokenizer:
    """Text <-> token ids as the model of the file was trained; safe from any thread.

    `add_bos` and `add_eos` say which marks `encode(add_special=True)` adds. `special_ids` are the
    tokens that control the model and have no text of their own, `eog_ids` those that end a
    generation. Ids the file does not name are None.
    """

    def __init__(self, metadata: Metadata) -> None:
        kind = _find_kind(metadata)
        vocabulary = read_vocabulary(metadata, kind.default_ids, scored=kind.scored)
        self._model = kind(vocabulary)
        self._tokens = vocabulary.tokens
        self.vocab_size = len(vocabulary.tokens)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.eog_ids = vocabulary.eog_ids
        self.add_bos = _adds(metadata, "bos", self.bos_id, self._model.add_bos)
        self.add_eos = _adds(metadata, "eos", self.eos_id, self._model.add_eos)
        control = vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN)
        plain = vocabulary.of_type(TokenType.USER_DEFINED)
        self.special_ids = frozenset(control)
        self._plain_splitter = self._splitter(plain)
        self._special_splitter = self._splitter(plain + control)
        self._guard_splitter = self._splitter([id for id in control if len(self._tokens[id]) > 1])
        self._templates = _templates(metadata)
        self._compiled: dict[str, ChatTemplate] = {}

    @classmethod
    def from_gguf(cls, source: str | os.PathLike[str] | GGUFFile) -> Tokenizer:
        """The tokenizer of a model file or of a file that holds nothing but a vocabulary.

        Raises ModelFileError for a damaged file, UnsupportedError for a kind of vocabulary or a
        pre-tokenizer that is not known.
        """
        if isinstance(source, GGUFFile):
            return cls(source.metadata)
        with GGUFFile.open(source) as file:
            return cls(file.metadata)

    def encode(
        self, text: str, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """The ids of `text`.

        `add_special` adds the begin and end marks of the model, unless `text` has them already.
        `parse_special` makes control tokens of their texts; without it these are plain text, so
        that a user's text cannot control the model. Raises InvalidArgumentError for a string with
        a lone surrogate, which has no UTF-8.
        """
        check_text(text)
        ids: list[int] = []
        for part in self._split(text, parse_special):
            ids += [part] if isinstance(part, int) else self._model.encode(part)
        if add_special:
            begin = [self.bos_id] if self.add_bos and self.bos_id is not None else []
            end = [self.eos_id] if self.add_eos and self.eos_id is not None else []
            ids = ([] if ids[:1] == begin else begin) + ids + ([] if ids[-1:] == end else end)
        return ids

    def encode_batch(
        self, texts: Iterable[str], add_special: bool = False, parse_special: bool = False
    ) -> list[list[int]]:
        return [self.encode(text, add_special, parse_special) for text in texts]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD.

        Control tokens are left out, or spelled out if not `skip_special`. Raises
        InvalidArgumentError for an id outside of the vocabulary.
        """
        data = b"".join(self.output_bytes(id, skip_special) for id in ids)
        if self.drops_leading_space:
            data = data.removeprefix(b" ")
        return data.decode(errors="replace")

    @property
    def drops_leading_space(self) -> bool:
        """Whether encoding puts a space before the text, which `decode` takes away again."""
        return self._model.drops_leading_space

    def output_bytes(self, id: int, skip_special: bool = True) -> bytes:
        """What a token adds to the output: `token_bytes`, or nothing for a skipped one."""
        data = self.token_bytes(id)
        return b"" if skip_special and id in self.special_ids else data

    def token_bytes(self, id: int) -> bytes:
        """The bytes a token stands for, part of a character or none included."""
        self._check_id(id)
        return self._model.token_bytes(id)

    def token_text(self, id: int) -> str:
        """The token as the vocabulary writes it, for showing."""
        self._check_id(id)
        return self._tokens[id]

    @property
    def chat_template_source(self) -> str | None:
        """The source of the file's chat template."""
        return self._templates.get("")

    @property
    def named_chat_template_sources(self) -> Mapping[str, str]:
        """Sources of further templates, such as "tool_use" or "rag"."""
        return {name: source for name, source in self._templates.items() if name}

    def apply_chat_template(
        self,
        messages: Iterable[Any],
        add_generation_prompt: bool = True,
        tools: Any = None,
        **names: Any,
    ) -> str:
        """The prompt for `messages`, to be encoded with parse_special.

        The template called "tool_use" is taken for `tools`, where the file has one. `names` are
        further variables of the template. Raises UnsupportedError if the file has no template.
        """
        source = self._templates.get("tool_use" if tools else "", self.chat_template_source)
        if source is None:
            msg = "the model file has no chat template (tokenizer.chat_template)"
            raise UnsupportedError(msg)
        if source not in self._compiled:
            self._compiled[source] = ChatTemplate(source)
        return self._compiled[source].render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            bos_token="" if self.bos_id is None else self._tokens[self.bos_id],
            eos_token="" if self.eos_id is None else self._tokens[self.eos_id],
            **names,
        )

    def encode_chat(
        self,
        messages: Iterable[Any],
        add_generation_prompt: bool = True,
        tools: Any = None,
        **names: Any,
    ) -> list[int]:
        """The ids of `apply_chat_template`, with control tokens from the template alone.

        A control token that a message or a tool spells out is plain text. Raises what
        `apply_chat_template` does.
        """
        if self._guard_splitter is None:
            text = self.apply_chat_template(messages, add_generation_prompt, tools, **names)
            return self.encode(text, parse_special=True)
        messages = list(messages)
        guard = ChatGuard([messages, tools], self._guard_splitter, self._tokens)
        text = self.apply_chat_template(
            guard.hide(messages), add_generation_prompt, guard.hide(tools), **names
        )
        check_text(text)
        ids: list[int] = []
        for part in self._split(text, parse_special=True):
            ids += [part] if isinstance(part, int) else self._model.encode(guard.reveal(part))
        return ids

    def _split(self, text: str, parse_special: bool) -> list[str | int]:
        splitter = self._special_splitter if parse_special else self._plain_splitter
        if splitter is None:
            return [text] if text else []
        return splitter.split(text)

    def _splitter(self, ids: list[int]) -> SpecialSplitter | None:
        texts = {self._tokens[id]: id for id in ids if self._tokens[id]}
        return SpecialSplitter(texts) if texts else None

    def _check_id(self, id: int) -> None:
        if not 0 <= id < self.vocab_size:
            msg = f"token id {id} is outside of the vocabulary, 0 to {self.vocab_size - 1}"
            raise InvalidArgumentError(msg)


def _find_kind(metadata: Metadata) -> type[TextModel]:
    key = PREFIX + "model"
    name = metadata.string(key)
    if name not in _MODELS:
        msg = f"the vocabulary kind {name!r} ({key}) is unknown; known are {', '.join(_MODELS)}"
        raise UnsupportedError(msg)
    return _MODELS[name]


def _adds(metadata: Metadata, mark: str, id: int | None, default: bool) -> bool:
    """Whether the mark is added; a file that demands it has to say which token it is."""
    key = f"{PREFIX}add_{mark}_token"
    wanted = metadata.bool(key, None)
    if wanted and id is None:
        metadata.fail(key, f"the {mark} token is to be added, but no key names it")
    return (default if wanted is None else wanted) and id is not None


def _templates(metadata: Metadata) -> dict[str, str]:
    """Sources by name; the main one's is empty."""
    main = metadata.string(_TEMPLATE_KEY, None)
    templates = {} if main is None else {"": main}
    prefix = _TEMPLATE_KEY + "."
    for key in metadata:
        if key.startswith(prefix):
            templates[key[len(prefix) :]] = metadata.string(key)
    return templates
