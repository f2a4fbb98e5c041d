from __future__ import annotations

import hashlib
import struct
from array import array

import pytest

from rocmforge.engine import prefix_cache
from rocmforge.engine.block_manager import BlockManager, CacheConfig
from rocmforge.engine.request import Request
from rocmforge.errors import InvalidArgumentError

SIZE = 4


def request(token_ids: list[int], namespace: str = "") -> Request:
    return Request(
        request_id=0,
        token_ids=array("i", token_ids),
        num_prompt_tokens=len(token_ids),
        max_num_tokens=100,
        namespace=namespace,
    )


def admit(blocks: BlockManager, req: Request, num_spare: int = 0) -> bool:
    return blocks.admit(req, blocks.cache.match(req), num_spare)


def compute(blocks: BlockManager, req: Request) -> None:
    """As if the decoder had run all known tokens."""
    req.num_computed_tokens = req.num_scheduled_tokens = len(req.token_ids)
    blocks.cache.publish(req)


@pytest.fixture
def blocks() -> BlockManager:
    return BlockManager(CacheConfig(num_blocks=8, block_size=SIZE))


def test_a_pool_without_blocks_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="0 blocks of 4 tokens"):
        BlockManager(CacheConfig(num_blocks=0, block_size=4))


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_request_gets_exactly_the_blocks_its_tokens_fill(
    blocks: BlockManager, num_tokens: int, num_blocks: int
) -> None:
    req = request(list(range(num_tokens)))
    assert admit(blocks, req)
    assert len(req.block_table) == num_blocks
    assert blocks.num_free == 8 - num_blocks
    blocks.check_integrity([req])


def test_growth_takes_a_block_only_across_an_edge(blocks: BlockManager) -> None:
    req = request([1, 2, 3])
    admit(blocks, req)
    assert blocks.grow(req, 4)
    assert len(req.block_table) == 1
    assert blocks.grow(req, 5)
    assert len(req.block_table) == 2


def test_growth_beyond_the_pool_changes_nothing(blocks: BlockManager) -> None:
    req = request([1] * 28)
    admit(blocks, req)
    before = req.block_table.tolist()
    assert not blocks.grow(req, 33)
    assert req.block_table.tolist() == before
    assert blocks.num_free == 1
    assert blocks.grow(req, 32)


def test_admission_leaves_the_spare_blocks_or_changes_nothing(blocks: BlockManager) -> None:
    req = request([1] * 24)
    assert not admit(blocks, req, num_spare=3)
    assert blocks.num_free == 8
    assert not req.block_table
    assert admit(blocks, req, num_spare=2)


def test_release_returns_every_block(blocks: BlockManager) -> None:
    req = request(list(range(11)))
    admit(blocks, req)
    compute(blocks, req)
    blocks.release(req)
    assert blocks.num_free == 8
    assert not req.block_table
    blocks.check_integrity([])


def test_a_block_released_twice_is_noticed(blocks: BlockManager) -> None:
    req = request([1, 2])
    admit(blocks, req)
    table = req.block_table[:]
    blocks.release(req)
    req.block_table.extend(table)
    with pytest.raises(AssertionError, match="released more often"):
        blocks.release(req)


def test_a_computed_prefix_is_shared_up_to_the_last_full_block(blocks: BlockManager) -> None:
    first = request(list(range(10)))
    admit(blocks, first)
    compute(blocks, first)
    second = request([*range(8), 70, 80])
    admit(blocks, second)
    assert second.block_table[:2] == first.block_table[:2]
    assert second.block_table[2] != first.block_table[2]
    assert second.num_computed_tokens == 8
    assert blocks.num_free == 8 - 4
    blocks.check_integrity([first, second])


def test_the_last_token_is_never_taken_from_the_cache(blocks: BlockManager) -> None:
    """Its logits are wanted, so it has to run."""
    first = request(list(range(8)))
    admit(blocks, first)
    compute(blocks, first)
    same = request(list(range(8)))
    admit(blocks, same)
    assert same.num_computed_tokens == 4
    longer = request(list(range(9)))
    admit(blocks, longer)
    assert longer.num_computed_tokens == 8


def test_what_is_not_computed_is_not_found(blocks: BlockManager) -> None:
    first = request(list(range(12)))
    admit(blocks, first)
    first.num_computed_tokens = 7
    blocks.cache.publish(first)
    second = request(list(range(12)))
    admit(blocks, second)
    assert second.num_computed_tokens == 4


def test_equal_blocks_after_different_prefixes_are_not_shared(blocks: BlockManager) -> None:
    first = request([1, 1, 1, 1, 5, 6, 7, 8, 0])
    admit(blocks, first)
    compute(blocks, first)
    second = request([2, 2, 2, 2, 5, 6, 7, 8, 0])
    admit(blocks, second)
    assert second.num_computed_tokens == 0
    shifted = request([5, 6, 7, 8, 0])
    admit(blocks, shifted)
    assert shifted.num_computed_tokens == 0


def test_digests_are_a_sha256_chain_from_the_namespace(blocks: BlockManager) -> None:
    req = request(list(range(9)), namespace="alice")
    digest = hashlib.sha256(b"alice").digest()
    for begin in (0, 4):
        content = struct.pack("=4i", *range(begin, begin + 4))
        digest = hashlib.sha256(digest + content).digest()
    assert blocks.cache.extend_digests(req, 2)[1] == digest


def test_namespaces_do_not_share(blocks: BlockManager) -> None:
    first = request(list(range(9)), namespace="alice")
    admit(blocks, first)
    compute(blocks, first)
    other = request(list(range(9)), namespace="bob")
    admit(blocks, other)
    assert other.num_computed_tokens == 0
    same = request(list(range(9)), namespace="alice")
    admit(blocks, same)
    assert same.num_computed_tokens == 8


@pytest.mark.parametrize("namespaces", [("", ""), ("alice", "bob")])
def test_equal_digests_are_told_apart_by_their_tokens(
    blocks: BlockManager, monkeypatch: pytest.MonkeyPatch, namespaces: tuple[str, str]
) -> None:
    monkeypatch.setattr(prefix_cache, "chain_digest", lambda parent, content: b"")  # noqa: ARG005
    first = request([1, 2, 3, 4, 5, 6, 7, 8, 9], namespaces[0])
    admit(blocks, first)
    compute(blocks, first)
    second = request([1, 2, 3, 40, 5, 6, 7, 8, 9], namespaces[1])
    admit(blocks, second)
    assert second.num_computed_tokens == 0
    compute(blocks, second)
    assert blocks.num_cached == 1


def test_the_same_tokens_after_a_collision_are_not_taken_for_the_cached_ones(
    blocks: BlockManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First blocks collide, second blocks are equal: only the parent tells them apart."""
    real = prefix_cache.chain_digest
    weak = {array("i", [t] * SIZE).tobytes(): b"same" for t in (1, 2)}
    monkeypatch.setattr(
        prefix_cache, "chain_digest", lambda p, c: weak[c] if c in weak else real(p, c)
    )
    first = request([1, 1, 1, 1, 5, 6, 7, 8, 0])
    admit(blocks, first)
    compute(blocks, first)
    blocks.release(first)
    blocks.cache.forget(next(i for i in range(8) if blocks.cache.entry(i).token_ids in weak))
    blocks._evictable = {i: None for i in blocks._evictable if blocks.cache.entry(i)}
    blocks._free += [i for i in range(8) if not blocks.cache.entry(i) and i not in blocks._free]
    second = request([2, 2, 2, 2, 5, 6, 7, 8, 0])
    admit(blocks, second)
    second.num_computed_tokens = 4
    blocks.cache.publish(second)
    third = request([2, 2, 2, 2, 5, 6, 7, 8, 0])
    admit(blocks, third)
    assert third.num_computed_tokens == 4


def test_nothing_after_a_collision_is_published(
    blocks: BlockManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digests go on as if the prefix were the cached one, which it is not."""
    real = prefix_cache.chain_digest
    weak = {array("i", [t] * SIZE).tobytes(): b"same" for t in (1, 2)}
    monkeypatch.setattr(
        prefix_cache, "chain_digest", lambda p, c: weak[c] if c in weak else real(p, c)
    )
    first, second = request([1, 1, 1, 1, 0]), request([2, 2, 2, 2, 5, 6, 7, 8, 0])
    for req in (first, second):
        admit(blocks, req)
        compute(blocks, req)
    third = request([1, 1, 1, 1, 5, 6, 7, 8, 0])
    admit(blocks, third)
    assert third.num_computed_tokens == 4


def test_content_computed_twice_is_kept_once(blocks: BlockManager) -> None:
    first, second = request(list(range(9))), request(list(range(9)))
    admit(blocks, first)
    admit(blocks, second)
    compute(blocks, first)
    compute(blocks, second)
    assert blocks.num_cached == 2
    blocks.check_integrity([first, second])
    blocks.release(second)
    blocks.release(first)
    assert blocks.num_free == 8
    blocks.check_integrity([])


def test_released_content_is_found_until_it_is_overwritten(blocks: BlockManager) -> None:
    first = request(list(range(9)))
    admit(blocks, first)
    compute(blocks, first)
    blocks.release(first)
    again = request(list(range(9)))
    admit(blocks, again)
    assert again.num_computed_tokens == 8
    blocks.check_integrity([again])
    blocks.release(again)

    everything = request([9] * 32)
    admit(blocks, everything)
    assert blocks.num_cached == 0
    blocks.release(everything)
    late = request(list(range(9)))
    admit(blocks, late)
    assert late.num_computed_tokens == 0


def test_the_least_recently_used_content_goes_first_and_its_end_before_its_beginning(
    blocks: BlockManager,
) -> None:
    old, new = request([1] * 12), request([2] * 12)
    for req in (old, new):
        admit(blocks, req)
        compute(blocks, req)
        blocks.release(req)
    # Two blocks are free and six evictable: three blocks cost the end of `old` alone.
    filler = request([3] * 12)
    admit(blocks, filler)
    assert len(blocks.cache.match(request([1] * 13)).block_ids) == 2
    assert len(blocks.cache.match(request([2] * 13)).block_ids) == 3


def test_a_hit_makes_content_recent(blocks: BlockManager) -> None:
    old, new = request([1] * 12), request([2] * 12)
    for req in (old, new):
        admit(blocks, req)
        compute(blocks, req)
        blocks.release(req)
    hit = request([1] * 13)
    admit(blocks, hit)
    compute(blocks, hit)
    blocks.release(hit)
    admit(blocks, request([3] * 20))
    assert len(blocks.cache.match(request([1] * 13)).block_ids) == 3
    assert len(blocks.cache.match(request([2] * 13)).block_ids) == 0


def test_blocks_in_use_by_others_cost_an_admission_nothing(blocks: BlockManager) -> None:
    first = request(list(range(25)))
    admit(blocks, first)
    compute(blocks, first)
    assert blocks.num_free == 1
    second = request(list(range(25)))
    assert admit(blocks, second)
    assert blocks.num_free == 0


def test_revived_blocks_count_against_the_spare_ones(blocks: BlockManager) -> None:
    first = request(list(range(25)))
    admit(blocks, first)
    compute(blocks, first)
    blocks.release(first)
    second = request(list(range(25)))
    assert not admit(blocks, second, num_spare=2)
    assert admit(blocks, second, num_spare=1)


def test_requests_that_want_every_row_take_nothing_from_the_cache(blocks: BlockManager) -> None:
    first = request(list(range(9)))
    admit(blocks, first)
    compute(blocks, first)
    scored = request(list(range(9)))
    scored.output = "logits"
    admit(blocks, scored)
    assert scored.num_computed_tokens == 0
