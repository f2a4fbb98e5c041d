# cython: boundscheck=False, wraparound=False
"""Merging by score, the way SentencePiece's BPE models do (bpe_model.cc, SampleEncode).

Of all neighbouring pairs whose concatenation is a token, the one of the highest score is merged
first, the leftmost of equal ones; again until no pair is a token. Merge lists with one rank a pair
cannot say that: two splits of one token have the same score, and which goes first is a matter of
place. The queue holds every pair once when its neighbours first meet: O(n log n) in the bytes.
"""

from cython.operator cimport dereference
from libc.stdint cimport int32_t, uint8_t
from libcpp.pair cimport pair
from libcpp.queue cimport priority_queue
from libcpp.string cimport string
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from rocmforge.errors import InvalidArgumentError

cdef struct Piece:
    int32_t id
    double score

# A run of bytes of the text; size 0 once it has been merged into the symbol before it.
cdef struct Symbol:
    int32_t prev
    int32_t next
    int32_t start
    int32_t size

# (score, (-left, size)): the queue's top is the highest score, then the leftmost pair. A pair is
# out of date unless its two symbols still have `size` bytes together.
ctypedef pair[double, pair[int32_t, int32_t]] Bigram

cdef int32_t MAX_BYTES = 0x7FFFFFFF


cdef class ScoreMerges:
    """Pieces that text merges into; immutable, so that any thread may encode."""

    cdef unordered_map[string, Piece] pieces
    cdef vector[int32_t] byte_ids
    cdef int32_t unk_id
    cdef size_t longest

    def __init__(self, dict pieces, list byte_ids, unk_id):
        """`pieces`: UTF-8 -> (id, score). `byte_ids`: the token of every byte, or empty.

        A character that is no piece becomes the tokens of its bytes; without these, `unk_id`, once
        for a run of such characters.
        """
        cdef Piece piece
        self.longest = 0
        self.pieces.reserve(len(pieces))
        for text, (id, score) in pieces.items():
            piece.id = id
            piece.score = score
            self.pieces[<bytes>text] = piece
            self.longest = max(self.longest, <size_t>len(text))
        self.byte_ids = byte_ids
        self.unk_id = unk_id

    def encode(self, bytes text not None):
        """The ids of `text`, which is valid UTF-8; InvalidArgumentError for 2 GiB and more."""
        if len(text) > MAX_BYTES:
            msg = f"a text of {len(text)} bytes is over {MAX_BYTES}"
            raise InvalidArgumentError(msg)
        cdef const char* data = text
        cdef size_t size = len(text)
        cdef vector[int32_t] ids
        with nogil:
            self._encode(data, size, ids)
        return ids

    cdef void _encode(self, const char* text, size_t size, vector[int32_t]& ids) noexcept nogil:
        cdef vector[Symbol] symbols
        cdef priority_queue[Bigram] queue
        cdef Bigram top
        cdef int32_t left, right, after, count
        cdef bint unknown = False

        _split_characters(text, size, symbols)
        count = <int32_t>symbols.size()
        for left in range(count - 1):
            self._add(text, symbols, left, left + 1, queue)
        while not queue.empty():
            top = queue.top()
            queue.pop()
            left = -top.second.first
            right = symbols[left].next
            if symbols[left].size == 0 or right < 0:
                continue
            if symbols[left].size + symbols[right].size != top.second.second:
                continue
            symbols[left].size += symbols[right].size
            symbols[right].size = 0
            after = symbols[right].next
            symbols[left].next = after
            if after >= 0:
                symbols[after].prev = left
            self._add(text, symbols, symbols[left].prev, left, queue)
            self._add(text, symbols, left, after, queue)

        left = 0 if count > 0 else -1
        while left >= 0:
            unknown = self._emit(text + symbols[left].start, symbols[left].size, unknown, ids)
            left = symbols[left].next

    cdef void _add(
        self,
        const char* text,
        vector[Symbol]& symbols,
        int32_t left,
        int32_t right,
        priority_queue[Bigram]& queue,
    ) noexcept nogil:
        """Queues the pair (left, right), either of which may be absent, if it makes a piece."""
        cdef int32_t size
        cdef unordered_map[string, Piece].iterator found
        if left < 0 or right < 0:
            return
        size = symbols[left].size + symbols[right].size
        if <size_t>size > self.longest:
            return
        found = self.pieces.find(string(text + symbols[left].start, size))
        if found != self.pieces.end():
            queue.push(Bigram(dereference(found).second.score, pair[int32_t, int32_t](-left, size)))

    cdef bint _emit(
        self, const char* text, int32_t size, bint unknown, vector[int32_t]& ids
    ) noexcept nogil:
        """Appends a symbol's ids; whether it was unknown, as the one before was if `unknown`."""
        cdef int32_t i
        cdef unordered_map[string, Piece].iterator found
        found = self.pieces.find(string(text, size))
        if found != self.pieces.end():
            ids.push_back(dereference(found).second.id)
            return False
        if not self.byte_ids.empty():
            for i in range(size):
                ids.push_back(self.byte_ids[<uint8_t>text[i]])
            return False
        if not unknown:
            ids.push_back(self.unk_id)
        return True


cdef void _split_characters(const char* text, size_t size, vector[Symbol]& symbols) noexcept nogil:
    """One symbol a character of valid UTF-8."""
    cdef Symbol symbol
    cdef int32_t index
    cdef size_t i
    for i in range(size):
        if <uint8_t>text[i] & 0xC0 == 0x80 and not symbols.empty():
            symbols[symbols.size() - 1].size += 1
            continue
        index = <int32_t>symbols.size()
        symbol.prev = index - 1
        symbol.next = index + 1
        symbol.start = <int32_t>i
        symbol.size = 1
        symbols.push_back(symbol)
    if not symbols.empty():
        symbols[symbols.size() - 1].next = -1
