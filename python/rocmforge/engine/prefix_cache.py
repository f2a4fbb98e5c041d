"""Finds KV blocks that already hold a prefix of a request.

Every full block has a digest chained over all blocks before it:

    digest(i) = SHA-256(digest(i - 1) || token ids of block i),  digest(-1) = SHA-256(namespace)

The digest is only the index. An entry also keeps its token ids and the entry it extends, and a
hit compares both, so two prefixes are never confused even if their digests are equal. Entry
serials are never used twice: the children of an evicted entry are out of reach, not misread.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from rocmforge.engine.request import Request


def chain_digest(parent: bytes, content: bytes) -> bytes:
    return hashlib.sha256(parent + content).digest()


class CacheEntry(NamedTuple):
    digest: bytes
    parent: int | str  # serial of the entry before it; the namespace for a first block
    token_ids: bytes  # int32 [block_size]
    serial: int


class PrefixMatch(NamedTuple):
    """Cached blocks that hold the beginning of a request, in order."""

    block_ids: list[int]
    parent: int | str  # what the next block of the request would extend
    next_digest: bytes | None  # of the first full block that is not cached


class PrefixCache:
    """Which blocks hold published content. Reference counts are the block manager's."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self._block_size = block_size
        self._block_of_digest: dict[bytes, int] = {}
        self._entries: list[CacheEntry | None] = [None] * num_blocks
        self._last_serial = 0

    def __len__(self) -> int:
        return len(self._block_of_digest)

    def entry(self, block_id: int) -> CacheEntry | None:
        return self._entries[block_id]

    def extend_digests(self, request: Request, num_blocks: int) -> list[bytes]:
        """The digests of at least the first `num_blocks` blocks of known tokens."""
        digests = request.block_digests
        size = self._block_size
        assert num_blocks * size <= len(request.token_ids)
        for index in range(len(digests), num_blocks):
            parent = digests[-1] if digests else chain_digest(b"", request.namespace.encode())
            content = request.token_ids[index * size : (index + 1) * size].tobytes()
            digests.append(chain_digest(parent, content))
        return digests

    def match(self, request: Request) -> PrefixMatch:
        """Looks up all full blocks but one holding the last token, whose logits are wanted."""
        parent: int | str = request.namespace
        block_ids: list[int] = []
        if request.wants_rows:  # of every token, so all have to be computed
            return PrefixMatch(block_ids, parent, None)
        size = self._block_size
        num_blocks = (len(request.token_ids) - 1) // size
        digests = self.extend_digests(request, num_blocks)
        for index in range(num_blocks):
            block_id = self._block_of_digest.get(digests[index])
            if block_id is None:
                return PrefixMatch(block_ids, parent, digests[index])
            content = request.token_ids[index * size : (index + 1) * size].tobytes()
            entry = self._entries[block_id]
            assert entry is not None
            if entry.token_ids != content or entry.parent != parent:
                break
            block_ids.append(block_id)
            parent = entry.serial
        return PrefixMatch(block_ids, parent, None)

    def publish(self, request: Request) -> None:
        """Makes the request's computed full blocks findable.

        A block whose content is cached already stays private to the request. After a digest
        collision nothing more of the request is published, since no entry stands for its prefix.
        """
        size = self._block_size
        num_full = request.num_computed_tokens // size
        digests = self.extend_digests(request, num_full)
        for index in range(request.num_published_blocks, num_full):
            parent = request.chain_parent
            if parent is None:
                break
            content = request.token_ids[index * size : (index + 1) * size].tobytes()
            known = self._block_of_digest.get(digests[index])
            if known is not None:
                entry = self._entries[known]
                assert entry is not None
                same = entry.token_ids == content and entry.parent == parent
                request.chain_parent = entry.serial if same else None
                continue
            self._last_serial += 1
            block_id = request.block_table[index]
            assert self._entries[block_id] is None
            self._entries[block_id] = CacheEntry(digests[index], parent, content, self._last_serial)
            self._block_of_digest[digests[index]] = block_id
            request.chain_parent = self._last_serial
        request.num_published_blocks = num_full

    def forget(self, block_id: int) -> None:
        """Drops the entry of a block that is about to be overwritten."""
        entry = self._entries[block_id]
        assert entry is not None
        del self._block_of_digest[entry.digest]
        self._entries[block_id] = None

    def check_integrity(self) -> None:
        """Asserts that index and entries are each other's inverse."""
        entries = {i: e for i, e in enumerate(self._entries) if e is not None}
        assert {e.digest: i for i, e in entries.items()} == self._block_of_digest
        assert len(entries) == len(self._block_of_digest)
        assert len({e.serial for e in entries.values()}) == len(entries)
