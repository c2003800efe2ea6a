"""Prefix hashes: equal exactly where the tokens so far, the blocks and the tenant are."""

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from splitweave.proto.blocks import block_hashes, chain, root
from splitweave.proto.ids import PrefixHash

TOKENS = st.lists(st.integers(0, 3), max_size=24)
BLOCK = st.integers(1, 5)


def shared_blocks(one: Sequence[int], other: Sequence[int], block_tokens: int) -> int:
    """Full blocks at the start that have the same tokens, by comparison."""
    count = 0
    for end in range(block_tokens, min(len(one), len(other)) + 1, block_tokens):
        if list(one[:end]) != list(other[:end]):
            break
        count += 1
    return count


@given(TOKENS, BLOCK)
def test_only_full_blocks_have_a_hash(token_ids: list[int], block_tokens: int) -> None:
    assert len(block_hashes(token_ids, block_tokens)) == len(token_ids) // block_tokens


@given(TOKENS, st.lists(st.integers(0, 3), max_size=4), BLOCK)
def test_the_tail_that_fills_no_block_changes_no_hash(
    token_ids: list[int], tail: list[int], block_tokens: int
) -> None:
    full = len(token_ids) - len(token_ids) % block_tokens
    assume(len(tail) < block_tokens)
    aligned = token_ids[:full]
    assert block_hashes([*aligned, *tail], block_tokens) == block_hashes(aligned, block_tokens)


@given(TOKENS, TOKENS, BLOCK)
def test_appending_tokens_leaves_the_earlier_hashes(
    token_ids: list[int], more: list[int], block_tokens: int
) -> None:
    before = block_hashes(token_ids, block_tokens)
    assert block_hashes([*token_ids, *more], block_tokens)[: len(before)] == before


@given(TOKENS, TOKENS, BLOCK)
def test_prompts_share_as_many_hashes_as_leading_blocks(
    one: list[int], other: list[int], block_tokens: int
) -> None:
    pairs = zip(block_hashes(one, block_tokens), block_hashes(other, block_tokens), strict=False)
    equal = [first == second for first, second in pairs]
    shared = shared_blocks(one, other, block_tokens)
    assert equal == [True] * shared + [False] * (len(equal) - shared)


@given(TOKENS, BLOCK)
def test_a_block_has_another_hash_at_another_place(token_ids: list[int], block_tokens: int) -> None:
    assume(len(token_ids) >= block_tokens)
    block = token_ids[:block_tokens]
    hashes = block_hashes(block * 6, block_tokens)
    assert len(set(hashes)) == 6


@given(TOKENS, BLOCK, st.text(max_size=4), st.text(max_size=4))
def test_tenants_with_different_salts_share_nothing(
    token_ids: list[int], block_tokens: int, salt: str, other: str
) -> None:
    mine, theirs = (set(block_hashes(token_ids, block_tokens, s)) for s in (salt, other))
    assert mine == theirs if salt == other else not mine & theirs


@given(TOKENS, BLOCK)
def test_hashes_can_be_computed_block_by_block(token_ids: list[int], block_tokens: int) -> None:
    """As a worker does when decode fills another block."""
    parent, hashes = root(), []
    for start in range(0, len(token_ids) - block_tokens + 1, block_tokens):
        parent = chain(parent, token_ids[start : start + block_tokens])
        hashes.append(parent)
    assert tuple(hashes) == block_hashes(token_ids, block_tokens)


@given(TOKENS, BLOCK)
def test_a_list_a_tuple_and_a_range_of_the_same_tokens_hash_alike(
    token_ids: list[int], block_tokens: int
) -> None:
    assert block_hashes(token_ids, block_tokens) == block_hashes(tuple(token_ids), block_tokens)
    assert block_hashes(range(9), block_tokens) == block_hashes(list(range(9)), block_tokens)


@given(TOKENS)
def test_hashes_fit_64_bits(token_ids: list[int]) -> None:
    assert all(0 <= item < 2**64 for item in block_hashes(token_ids, 1))


@pytest.mark.parametrize("parent", [0, 1, 2**63, 2**64 - 1])
def test_any_hash_may_be_a_parent(parent: int) -> None:
    assert chain(PrefixHash(parent), [1]) != chain(PrefixHash(parent), [2])


def test_token_boundaries_are_part_of_the_hash() -> None:
    """[1, 2] is not [12], nor [256 * 2 + 1]: tokens are hashed as words, not as digits."""
    assert len({chain(root(), ids) for ids in ([1, 2], [12], [513], [2, 1], [1, 2, 0])}) == 5


def test_the_hashes_are_pinned() -> None:
    """They are compared between processes and versions: a change empties every cache."""
    assert root() == 0x2D06800538D394C2  # XXH3-64 of nothing, from its specification
    assert block_hashes(range(6), 2, "tenant") == (
        5292034322325327983,
        17281265358731007277,
        13026505789359745680,
    )
