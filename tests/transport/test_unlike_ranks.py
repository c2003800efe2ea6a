"""Copies between groups of unlike size, as real processes: every block equals the unsharded one."""

import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kv_mesh import LIMITS
from rank_groups import OPEN, Groups
from splitweave.proto.worker_events import BlocksLanded, CopyFailed, CopySent

LAYERS = 3
HEAD_BYTES = LAYERS * 2 * 2 * 4 * 4  # layers, keys and values, tokens, head size, float32
MakeGroups = Callable[..., Groups]
# A target that swallows nothing more than what sockets hold, so that a part is surely under way.
MUCH_TOKENS = 2048
# A target may still be opening the pair when its source dies.
HASTY_TO_OPEN = replace(LIMITS, open_timeout_s=3.0)


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (2, 4), (4, 2), (2, 3), (2, 2)], ids=str)
@pytest.mark.parametrize("kv_heads", [8, 5, 1], ids=["even", "uneven", "replicated"])
def test_every_block_of_every_rank_equals_the_unsharded_one(
    groups: MakeGroups, kv_heads: int, sizes: tuple[int, int]
) -> None:
    both = groups(kv_heads, sizes)
    blocks = [3, 0, 17, 8, 11]
    copies = [both.copy("low", (0, 2), blocks), both.copy("high", (2, LAYERS), blocks)]
    for copy in copies:
        both.start(copy)
    for copy in copies:
        landed, sent = both.wait(both.landed, copy.copy_id), both.wait(both.sent, copy.copy_id)
        assert isinstance(landed, BlocksLanded), landed
        assert isinstance(sent, CopySent), sent
        assert landed.transfer_bytes == sent.transfer_bytes
    total = sum(end.transfer_bytes for end in both.landed.values())
    heads_received = sum(len(each.heads) for each in both.plan)
    assert total == len(blocks) * heads_received * HEAD_BYTES
    for rank in range(sizes[1]):
        arrived = both.blocks_of_target(rank, copies[0].target_blocks)
        assert torch.equal(arrived, both.wanted(rank, copies[0].source_blocks))
        others = tuple(set(range(24)) - set(copies[0].target_blocks))
        assert not both.blocks_of_target(rank, others).any()


@pytest.mark.parametrize("sizes", [(2, 1), (2, 4)], ids=str)
def test_a_source_rank_that_dies_midway_fails_the_whole_copy_and_nothing_is_published(
    groups: MakeGroups, sizes: tuple[int, int]
) -> None:
    both = groups(4, sizes, block_tokens=MUCH_TOKENS, limits=HASTY_TO_OPEN)
    copy = both.copy("x", (0, LAYERS), list(range(20)))
    waiting = both.target[-1].peer  # what rank 1 sends it cannot end while it is stopped
    waiting.signal(signal.SIGSTOP)
    both.start(copy)
    both.source[1].peer.wait(lambda words: words[0] == "header")
    both.kill_source(1)
    waiting.signal(signal.SIGCONT)
    assert isinstance(both.wait(both.landed, "x"), CopyFailed)
    assert isinstance(both.wait(both.sent, "x"), CopyFailed)
    both.close_leases()
    assert (len(both.landing), len(both.sending)) == (0, 0)

    # What the other rank sends now finds the lease closed; a new life and a new lease work.
    both.replace_source(1)
    before = [both.blocks_of_target(rank, copy.target_blocks) for rank in range(sizes[1])]
    both.start(copy)
    assert isinstance(both.wait(both.landed, "x"), BlocksLanded)
    after = [both.blocks_of_target(rank, copy.target_blocks) for rank in range(sizes[1])]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    for rank in both.target:
        rank.peer.order("open_lease", OPEN)
    both.start(copy)
    assert isinstance(both.wait(both.landed, "x"), BlocksLanded)
    for rank in range(sizes[1]):
        arrived = both.blocks_of_target(rank, copy.target_blocks)
        assert torch.equal(arrived, both.wanted(rank, copy.source_blocks))
