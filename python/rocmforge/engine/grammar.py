"""Output that follows a JSON schema, a regular expression or a Lark grammar, by llguidance.

Whatever a client sends ends in a grammar or in an InvalidArgumentError, in bounded time and
memory: the bounds below are about four times what 300 kB of tool definitions take.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from rocmforge.engine.grammar_tokens import TokenBytes, grammar_tokens
from rocmforge.engine.sampling import SamplingParams
from rocmforge.errors import (
    CapacityError,
    InvalidArgumentError,
    OutOfMemoryError,
    RocmForgeError,
)

COMPILE_TIMEOUT_S: Final = 1.0
MAX_CACHED_GRAMMARS: Final = 64
# Of source text; what is compiled from it takes about 60 times as much memory.
MAX_CACHED_BYTES: Final = 1024 * 1024

_LIMITS: Final = LLParserLimits(
    max_grammar_size=50_000,  # symbols
    max_items_in_row=4_000,  # 500 optional properties of one object take 2,000
    step_max_items=20_000,  # a mask then takes at most about 0.2 s
    max_lexer_states=50_000,  # 1 to 2 kB each
    verbose_errors=False,
)
# Compiling recurses once for every definition in a chain of them, and a stack overflow ends the
# process. The longest chains that the size limits of SamplingParams leave room for took less than
# 225 MB, stack and heap together. Only what is touched is ever backed by memory.
_STACK_BYTES: Final = 512 * 1024 * 1024
# Between the parts of JSON; without a bound a model may put out white space for ever.
_WHITE_SPACE: Final = r"[ \n\t]{1,16}"


class GrammarState:
    """Where one request stands in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def fill_mask(self, words: npt.NDArray[np.uint32]) -> None:
        """Sets the bits of the tokens that may come next in `words`, which is zeroed.

        Allows none once the grammar has failed; `error` then says why.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        if not self._matcher.is_error():
            # Either may have more words: the logits a wider row, the mask a spare word.
            num_words = min(len(words), len(mask))
            words[:num_words] = mask[:num_words]

    def accept(self, token_id: int) -> None:
        """Raises `error` for a token that fill_mask() did not allow or at a limit."""
        self._matcher.consume_token(token_id)
        if self.error is not None:
            raise self.error

    @property
    def is_finished(self) -> bool:
        """Whether nothing but the end may follow."""
        return self._matcher.is_stopped()

    @property
    def error(self) -> RocmForgeError | None:
        if not self._matcher.is_error():
            return None
        return InvalidArgumentError(f"the grammar has failed: {_message(self._matcher)}")


class GrammarCompiler:
    """Compiles the grammars of requests for one vocabulary; safe from any thread.

    `vocab_size` is the width of the logits; masks have a bit for each, in 32-bit words.
    """

    def __init__(self, tokenizer: TokenBytes, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._tokens: LLTokenizer | None = None
        self._cache = _Cache(MAX_CACHED_GRAMMARS, MAX_CACHED_BYTES)
        self._lock = threading.Lock()  # guards the two above
        self._compiling = threading.Semaphore()

    def compile(self, params: SamplingParams) -> GrammarState:
        """The initial state of the grammar that structured `params` name.

        Raises InvalidArgumentError for a grammar that is wrong, unsatisfiable, too large or not
        compiled within a second, CapacityError while others take all that time, and
        UnsupportedError for a vocabulary without an end token.
        """
        source = _source(params)
        with self._lock:
            if self._tokens is None:
                self._tokens = grammar_tokens(self._tokenizer, self._vocab_size)
            found = self._cache.get(source)
        if found is None:
            found = self._compile(self._tokens, source)
        if isinstance(found, str):
            msg = f"{source[0]} cannot be followed: {found}"
            raise InvalidArgumentError(msg)
        with self._lock:
            return GrammarState(found.deep_copy())

    def _compile(self, tokens: LLTokenizer, source: tuple[str, str]) -> LLMatcher | str:
        """Returns the matcher, or what is wrong with the grammar."""
        if not self._compiling.acquire(timeout=COMPILE_TIMEOUT_S):
            msg = "other grammars are being compiled; try again later"
            raise CapacityError(msg)
        result: list[LLMatcher | str] = []

        def work() -> None:
            try:
                entry = _build(tokens, *source)
            except BaseException as error:  # noqa: BLE001 (a Rust panic is no Exception)
                entry = f"the compiler failed: {_one_line(str(error))}"
            with self._lock:
                self._cache.put(source, entry)
            result.append(entry)
            self._compiling.release()

        thread = threading.Thread(target=work, name="rocmforge-grammar", daemon=True)
        try:
            with _stack_size(_STACK_BYTES):
                thread.start()
        except RuntimeError as error:
            self._compiling.release()
            msg = f"no room for a stack of {_STACK_BYTES >> 20} MiB to compile a grammar on"
            raise OutOfMemoryError(msg) from error
        thread.join(COMPILE_TIMEOUT_S)
        # A thread cannot be stopped, but the limits end it soon; until then no other starts.
        return result[0] if result else f"compiling it takes over {COMPILE_TIMEOUT_S:g} s"


class _Cache:
    """The grammars used last, within two bounds; a refusal is kept as its reason."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple[str, str], LLMatcher | str] = OrderedDict()

    def get(self, source: tuple[str, str]) -> LLMatcher | str | None:
        if source in self._entries:
            self._entries.move_to_end(source)
        return self._entries.get(source)

    def put(self, source: tuple[str, str], entry: LLMatcher | str) -> None:
        if source not in self._entries:
            self._num_bytes += _num_bytes(source)
        self._entries[source] = entry
        while len(self._entries) > self._max_entries or self._num_bytes > self._max_bytes:
            oldest, _ = self._entries.popitem(last=False)
            self._num_bytes -= _num_bytes(oldest)


def _build(tokens: LLTokenizer, kind: str, text: str) -> LLMatcher | str:
    try:
        if kind == "json_schema":
            schema = "{}" if text.strip() == "true" else text  # options need an object to go to
            grammar = LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_pattern": _WHITE_SPACE}
            )
        elif kind == "regex":
            grammar = LLMatcher.grammar_from_regex(text)
        else:
            grammar = LLMatcher.grammar_from_lark(text)
    except ValueError as error:
        return _one_line(str(error))
    matcher = LLMatcher(tokens, grammar, log_level=0, limits=_LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()  # fails where nothing satisfies the grammar
    return _message(matcher) if matcher.is_error() else matcher


def _source(params: SamplingParams) -> tuple[str, str]:
    if params.json_schema is not None:
        return "json_schema", str(params.json_schema)
    if params.regex is not None:
        return "regex", params.regex
    assert params.grammar is not None, "params are not structured"
    return "grammar", params.grammar


def _num_bytes(source: tuple[str, str]) -> int:
    return len(source[1].encode())


def _message(matcher: LLMatcher) -> str:
    return _one_line(matcher.get_error().removesuffix("<non-verbose/>"))


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    shown = line if len(line) <= 300 else line[:300] + "..."
    return "".join(c if c.isprintable() else "?" for c in shown)


_stack_size_lock: Final = threading.Lock()


@contextmanager
def _stack_size(num_bytes: int) -> Iterator[None]:
    """Threads started inside have stacks of this size. The setting is the process's."""
    with _stack_size_lock:
        before = threading.stack_size(num_bytes)
        try:
            yield
        finally:
            threading.stack_size(before)
