"""Hands out KV-cache blocks. Knows ids, reference counts and content, never device memory.

A block is in one of three places: on the free list, in the tables of the requests that use it
(`ref_count` of them), or evictable: nobody uses it, but its content can still be found. Only
full, computed, published blocks are ever shared, and nothing is written to those, so there is
no copy on write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rocmforge.engine.prefix_cache import PrefixCache, PrefixMatch
from rocmforge.engine.request import Request
from rocmforge.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """A pool of `num_blocks` blocks of `block_size` tokens each."""

    num_blocks: int
    block_size: int = 16

    def __post_init__(self) -> None:
        if self.num_blocks < 1 or self.block_size < 1:
            msg = f"a KV cache of {self.num_blocks} blocks of {self.block_size} tokens is empty"
            raise InvalidArgumentError(msg)


class BlockManager:
    """Who uses which block."""

    def __init__(self, config: CacheConfig) -> None:
        num_blocks = config.num_blocks
        self.num_blocks = num_blocks
        self.block_size = config.block_size
        self.cache = PrefixCache(num_blocks, config.block_size)
        self._ref_counts = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))
        self._evictable: dict[int, None] = {}  # least recently used first

    @property
    def num_free(self) -> int:
        """Blocks that can be had, those whose content would be lost included."""
        return len(self._free) + len(self._evictable)

    @property
    def num_cached(self) -> int:
        """Blocks whose content can be found, in use or not."""
        return len(self.cache)

    def num_blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def admit(self, request: Request, match: PrefixMatch, num_spare: int) -> bool:
        """Gives the request the matched blocks and new ones for the rest of its known tokens.

        Returns False, and changes nothing, unless `num_spare` blocks stay free.
        """
        assert not request.block_table
        hits = match.block_ids
        num_new = self.num_blocks_for(len(request.token_ids)) - len(hits)
        num_revived = sum(self._ref_counts[block_id] == 0 for block_id in hits)
        if num_new + num_revived + num_spare > self.num_free:
            return False
        for block_id in hits:
            if self._ref_counts[block_id] == 0:
                del self._evictable[block_id]
            self._ref_counts[block_id] += 1
        request.block_table.extend(hits)
        for _ in range(num_new):
            request.block_table.append(self._take())
        request.chain_parent = match.parent
        request.num_published_blocks = len(hits)
        request.num_computed_tokens = request.num_scheduled_tokens = len(hits) * self.block_size
        return True

    def grow(self, request: Request, num_tokens: int) -> bool:
        """Extends the request's table to hold `num_tokens` tokens in all.

        Returns False, and changes nothing, if there are not enough free blocks.
        """
        table = request.block_table
        num_needed = -(-num_tokens // self.block_size) - len(table)
        if num_needed <= 0:
            return True
        if num_needed > self.num_free:
            return False
        for _ in range(num_needed):
            table.append(self._take())
        return True

    def release(self, request: Request) -> None:
        """Takes back the request's blocks; what was published of them stays findable.

        The end of the sequence goes first in line for eviction: without its prefix it could not
        be found, while the prefix is useful without it.
        """
        for block_id in reversed(request.block_table):
            count = self._ref_counts[block_id] - 1
            assert count >= 0, f"block {block_id} released more often than taken"
            self._ref_counts[block_id] = count
            if count == 0:
                if self.cache.entry(block_id) is None:
                    self._free.append(block_id)
                else:
                    self._evictable[block_id] = None
        del request.block_table[:]
        request.chain_parent = None
        request.num_published_blocks = 0

    def _take(self) -> int:
        if self._free:
            block_id = self._free.pop()
        else:
            block_id = next(iter(self._evictable))
            del self._evictable[block_id]
            self.cache.forget(block_id)
        self._ref_counts[block_id] = 1
        return block_id

    def check_integrity(self, holders: Iterable[Request]) -> None:
        """Asserts the pool's invariants, given every request that has a block table.

        Slow: for tests and simulation.
        """
        holders = list(holders)
        tables = Counter[int]()
        for request in holders:
            assert len(set(request.block_table)) == len(request.block_table)
            tables.update(request.block_table)
        # Reference counts are the number of tables, and every block is in exactly one place.
        assert [tables[i] for i in range(self.num_blocks)] == self._ref_counts
        places = [*self._free, *self._evictable, *tables]
        assert sorted(places) == list(range(self.num_blocks))
        # Evictable blocks are published, free ones are not.
        assert all(self.cache.entry(i) is not None for i in self._evictable)
        assert all(self.cache.entry(i) is None for i in self._free)
        self.cache.check_integrity()
        for request in holders:
            self._check_content(request)

    def _check_content(self, request: Request) -> None:
        """Published blocks hold the request's tokens; what it may write is its own."""
        size = self.block_size
        assert request.num_published_blocks == request.num_computed_tokens // size
        parent: int | str | None = request.namespace
        for index, block_id in enumerate(request.block_table):
            entry = self.cache.entry(block_id)
            if entry is not None:
                assert index < request.num_published_blocks
                content = request.token_ids[index * size : (index + 1) * size].tobytes()
                assert entry.token_ids == content
                assert entry.digest == self.cache.extend_digests(request, index + 1)[index]
                assert parent in (entry.parent, None)
            else:
                assert self._ref_counts[block_id] == 1
            parent = entry.serial if entry is not None else None  # a private copy of cached content
