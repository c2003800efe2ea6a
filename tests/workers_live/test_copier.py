"""Copies between two real caches over gloo: leases guard every write."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Queue
from typing import Any

import pytest
import torch
from splitweave.proto.effects import CloseLease, OpenLease
from splitweave.proto.ids import BlockId, Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.worker_events import BlocksLanded, CopyFailed, CopySent
from splitweave.workers.live.block_rows import BlockRows, WholeRows
from splitweave.workers.live.copier import Copier
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.live.transport import ParcelHeader, Transport, TransportLimits
from splitweave.workers.models.errors import ModelError
from splitweave.workers.models.spec import Family, ModelSpec

WAIT_S = 60.0
LAYERS, BLOCKS, BLOCK_TOKENS, KV_HEADS, HEAD_SIZE = 4, 8, 4, 2, 16
LIMITS = TransportLimits(open_timeout_s=50.0, copy_timeout_s=50.0)
SPEC = ModelSpec(
    family=Family.LLAMA, layers=LAYERS, hidden=64, heads=4, kv_heads=KV_HEADS, head_dim=HEAD_SIZE,
    ffn=64, vocab=9, context_tokens=99, rms_eps=1e-5, rope_theta=1e4,
)  # fmt: skip
MOVE = MoveId("m")
OPEN, CLOSE = OpenLease(move_id=MOVE, lease=1), CloseLease(move_id=MOVE, lease=1)


class Held:
    """A cache whose reads fail and whose writes stand still when a test says so."""

    def __init__(self, seed: int) -> None:
        self.cache = KvCache(SPEC, BLOCKS, BLOCK_TOKENS)
        self.cache.tensor.normal_(generator=torch.Generator().manual_seed(seed))
        self.writing, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def block_rows(self, first_layer: int, last_layer: int, blocks: Any) -> "HeldRows":
        return HeldRows(self, self.cache.rows(first_layer, last_layer, blocks))


class HeldRows:
    def __init__(self, held: Held, rows: BlockRows) -> None:
        self._held, self._rows = held, rows
        self.size_bytes = rows.size_bytes

    def gather(self, start: int, into: torch.Tensor) -> None:
        if self._held.error is not None:
            raise self._held.error
        self._rows.gather(start, into)

    def scatter(self, start: int, piece: torch.Tensor) -> None:
        self._held.writing.set()
        assert self._held.go_on.wait(WAIT_S)
        if self._held.error is not None:
            raise self._held.error
        self._rows.scatter(start, piece)


class Side:
    """One worker's copier with its transport and cache; `events` is what it posts."""

    def __init__(self, name: str, seed: int, limits: TransportLimits) -> None:
        self.events: Queue[Any] = Queue()
        self.blocks = Held(seed)
        self.peer: Side | None = None
        self.held_back: Queue[tuple[ParcelHeader, Sequence[Copy]]] | None = None
        self.rpc_error: Exception | None = None
        key = WorkerKey(WorkerId(name), Incarnation(1))
        self.transport = Transport(key, "127.0.0.1", self._announce, limits=limits)
        self.copier = Copier(self.blocks, self.transport, self.events.put)

    def _announce(self, target: Any, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        if self.rpc_error is not None:
            raise self.rpc_error
        assert self.peer is not None
        if self.held_back is not None:
            self.held_back.put((header, copies))
        else:
            self.peer.copier.land(header, copies)

    def send(self, copy: Copy) -> None:
        assert self.peer is not None
        self.copier.start(copy, self.peer.transport.endpoint)

    def said(self, count: int = 1) -> list[Any]:
        return [self.events.get(timeout=WAIT_S) for _ in range(count)]


@pytest.fixture
def sides(request: pytest.FixtureRequest) -> Iterator[tuple[Side, Side]]:
    limits = getattr(request, "param", LIMITS)
    source, target = Side("a", 1, limits), Side("b", 2, limits)
    source.peer, target.peer = target, source
    yield source, target
    for side in (source, target):
        side.blocks.go_on.set()
        side.transport.close()


def copy_of(
    sources: Sequence[int],
    targets: Sequence[int],
    layers: tuple[int, int] = (0, LAYERS),
    name: str = "c",
    move: MoveId = MOVE,
) -> Copy:
    return Copy(
        copy_id=name,
        move_id=move,
        lease=1,
        target=WorkerKey(WorkerId("b"), Incarnation(1)),
        first_layer=layers[0],
        last_layer=layers[1],
        source_blocks=tuple(BlockId(block) for block in sources),
        target_blocks=tuple(BlockId(block) for block in targets),
    )


def test_blocks_arrive_equal_in_their_order_and_no_other_block_changes(
    sides: tuple[Side, Side],
) -> None:
    source, target = sides
    before = target.blocks.cache.tensor.clone()
    target.copier.open_lease(OPEN)
    source.send(copy_of([6, 0, 3], [1, 7, 2], layers=(1, 3)))
    size = 2 * 2 * 3 * KV_HEADS * BLOCK_TOKENS * HEAD_SIZE * 4
    (sent,), (landed,) = source.said(), target.said()
    assert sent == CopySent(copy_id="c", move_id=MOVE, transfer_bytes=size)
    assert landed == BlocksLanded(copy_id="c", move_id=MOVE, transfer_bytes=size)
    after, held = target.blocks.cache.tensor, source.blocks.cache.tensor
    assert torch.equal(after[1:3][:, :, [1, 7, 2]], held[1:3][:, :, [6, 0, 3]])
    before[1:3][:, :, [1, 7, 2]] = after[1:3][:, :, [1, 7, 2]]
    assert torch.equal(after, before)


def test_bits_travel_as_they_are_also_of_nan_and_negative_zero(sides: tuple[Side, Side]) -> None:
    source, target = sides
    words = source.blocks.cache.tensor.view(torch.int32)
    words.random_(-(2**31), 2**31 - 1, generator=torch.Generator().manual_seed(3))
    target.copier.open_lease(OPEN)
    source.send(copy_of(range(BLOCKS), range(BLOCKS)))
    assert isinstance(target.said()[0], BlocksLanded)
    assert torch.equal(target.blocks.cache.tensor.view(torch.int32), words)


def test_many_copies_both_ways_at_once_all_land(sides: tuple[Side, Side]) -> None:
    source, target = sides
    for side in sides:
        side.copier.open_lease(OPEN)
        side.blocks.cache.tensor[:, :, 4:] = 0
    expected = [side.blocks.cache.tensor[:, :, :4].clone() for side in (target, source)]
    for block in range(4):
        for layer in range(LAYERS):
            for side in sides:
                name = f"{block}/{layer}"
                side.send(copy_of([block], [block + 4], (layer, layer + 1), name))
    for side, content in zip(sides, expected, strict=True):
        kinds = [type(event).__name__ for event in side.said(2 * 4 * LAYERS)]
        assert sorted(kinds) == ["BlocksLanded"] * 16 + ["CopySent"] * 16
        assert torch.equal(side.blocks.cache.tensor[:, :, 4:], content)


def test_a_landing_without_a_lease_writes_nothing(sides: tuple[Side, Side]) -> None:
    source, target = sides
    before = target.blocks.cache.tensor.clone()
    target.copier.open_lease(OpenLease(move_id=MoveId("another"), lease=1))
    source.send(copy_of([0], [0]))
    assert isinstance(source.said()[0], CopySent)
    target.said()
    assert torch.equal(target.blocks.cache.tensor, before)
    assert not target.blocks.writing.is_set()


@pytest.mark.parametrize(("at", "blocks"), [("source", [0, BLOCKS]), ("target", [-1, 0])])
def test_blocks_that_there_are_not_are_a_failed_copy_and_touch_nothing(
    sides: tuple[Side, Side], at: str, blocks: list[int]
) -> None:
    source, target = sides
    before = target.blocks.cache.tensor.clone()
    target.copier.open_lease(OPEN)
    source.send(copy_of(blocks, [0, 1]) if at == "source" else copy_of([0, 1], blocks))
    (failed,) = (source if at == "source" else target).said()
    assert isinstance(failed, CopyFailed)
    assert torch.equal(target.blocks.cache.tensor, before)
    source.send(copy_of([2], [2], name="good"))
    assert isinstance(target.said()[0], BlocksLanded)


def test_a_landing_announced_under_a_lease_and_ending_after_it_writes_nothing(
    sides: tuple[Side, Side],
) -> None:
    source, target = sides
    source.held_back = Queue()
    before = target.blocks.cache.tensor.clone()
    target.copier.open_lease(OPEN)
    source.send(copy_of([0], [0]))
    header, copies = source.held_back.get(timeout=WAIT_S)
    target.copier.close_lease(CLOSE)
    target.copier.land(header, copies)
    target.said()
    assert torch.equal(target.blocks.cache.tensor, before)


def test_closing_a_lease_waits_for_a_write_in_progress_and_for_no_later_one(
    sides: tuple[Side, Side],
) -> None:
    source, target = sides
    target.copier.open_lease(OPEN)
    target.blocks.go_on.clear()
    source.send(copy_of([0], [0], name="first"))
    source.send(copy_of([1], [1], name="second"))
    assert target.blocks.writing.wait(WAIT_S)
    closed = threading.Event()
    late = target.blocks.cache.tensor[:, :, 1].clone()

    def close() -> None:
        target.copier.close_lease(CLOSE)
        closed.set()

    closer = threading.Thread(target=close)
    closer.start()
    assert not closed.wait(0.1), "the lease closed under a write"
    target.blocks.go_on.set()
    assert closed.wait(WAIT_S)
    closer.join(WAIT_S)
    # A write counts for the lease under which it began: this one is over.
    held = source.blocks.cache.tensor
    assert torch.equal(target.blocks.cache.tensor[:, :, 0], held[:, :, 0])
    at_close = target.blocks.cache.tensor.clone()
    target.said(2)
    assert torch.equal(target.blocks.cache.tensor, at_close)
    assert torch.equal(at_close[:, :, 1], late) or torch.equal(at_close[:, :, 1], held[:, :, 1])


def test_closing_one_lease_leaves_the_others_open(sides: tuple[Side, Side]) -> None:
    source, target = sides
    other = MoveId("other")
    for move in (MOVE, other):
        target.copier.open_lease(OpenLease(move_id=move, lease=1))
    target.copier.close_lease(CLOSE)
    target.copier.close_lease(CLOSE)
    source.send(copy_of([2], [2], move=other))
    assert isinstance(target.said()[0], BlocksLanded)
    expected = source.blocks.cache.tensor[:, :, 2]
    assert torch.equal(target.blocks.cache.tensor[:, :, 2], expected)


def test_a_gather_that_fails_is_a_failed_copy_of_that_name_and_the_next_one_goes(
    sides: tuple[Side, Side],
) -> None:
    source, target = sides
    target.copier.open_lease(OPEN)
    source.blocks.error = RuntimeError("no such block")
    source.send(copy_of([0], [0], name="bad"))
    (failed,) = source.said()
    assert isinstance(failed, CopyFailed)
    assert (failed.copy_id, failed.move_id) == ("bad", MOVE)
    assert "no such block" in failed.reason
    source.blocks.error = None
    source.send(copy_of([0], [0], name="good"))
    assert [type(event) for event in source.said()] == [CopySent]
    at_target = target.said(2)
    assert [event.copy_id for event in at_target] == ["bad", "good"]
    assert [type(event) for event in at_target] == [CopyFailed, BlocksLanded]


def test_a_write_that_fails_is_a_failed_copy_at_the_target_and_no_landing(
    sides: tuple[Side, Side],
) -> None:
    source, target = sides
    target.copier.open_lease(OPEN)
    target.blocks.error = RuntimeError("bad payload")
    source.send(copy_of([0], [0]))
    (failed,) = target.said()
    assert isinstance(failed, CopyFailed)
    assert "bad payload" in failed.reason


def test_a_target_that_cannot_be_told_is_a_failed_copy(sides: tuple[Side, Side]) -> None:
    source, _ = sides
    source.rpc_error = ConnectionError("worker b is gone")
    source.send(copy_of([0], [0]))
    (failed,) = source.said()
    assert isinstance(failed, CopyFailed)
    assert "worker b is gone" in failed.reason


# A pair that still opens as it is closed is left behind then, and closed once more at the end.
@pytest.mark.parametrize("sides", [replace(LIMITS, close_timeout_s=0.5)], indirect=True)
def test_a_closed_transport_is_a_failed_copy_on_either_side(sides: tuple[Side, Side]) -> None:
    source, target = sides
    source.held_back = Queue()
    source.send(copy_of([0], [0], name="announced"))
    header, copies = source.held_back.get(timeout=WAIT_S)
    for side in sides:
        side.transport.close()
    target.copier.land(header, copies)
    source.send(copy_of([0], [0], name="late"))
    failures = source.said(2) + target.said()
    assert all(isinstance(event, CopyFailed) for event in failures)
    assert [event.copy_id for event in failures] == ["announced", "late", "announced"]


def test_fail_reports_the_copy_with_its_reason(sides: tuple[Side, Side]) -> None:
    source, _ = sides
    source.copier.fail(copy_of([0], [0]), "no endpoint")
    assert source.said() == [CopyFailed(copy_id="c", move_id=MOVE, reason="no endpoint")]


@pytest.mark.parametrize("cut", [16, 48, 256, 1 << 20])
def test_rows_give_and_take_the_bytes_of_read_in_pieces_of_any_size(cut: int) -> None:
    cache = Held(5).cache
    blocks, expected = [6, 0, 3], cache.read(1, 3, [6, 0, 3])
    rows = cache.rows(1, 3, blocks)
    data = torch.zeros(rows.size_bytes, dtype=torch.uint8)
    for start in range(0, rows.size_bytes, cut):
        rows.gather(start, data[start : start + cut])
    assert torch.equal(data, expected.flatten().view(torch.uint8))
    other = KvCache(SPEC, BLOCKS, BLOCK_TOKENS)
    into = other.rows(1, 3, [1, 7, 2])
    for start in range(0, rows.size_bytes, cut):
        into.scatter(start, data[start : start + cut])
    assert torch.equal(other.read(1, 3, [1, 7, 2]), expected)
    other.tensor[1:3][:, :, [1, 7, 2]] = 0
    assert not other.tensor.any()


@pytest.mark.parametrize("blocks", [[BLOCKS], [-1], [0, 99]])
def test_rows_of_blocks_that_there_are_not_are_refused(blocks: list[int]) -> None:
    cache = KvCache(SPEC, BLOCKS, BLOCK_TOKENS)
    with pytest.raises(IndexError, match=f"of {BLOCKS}"):
        cache.rows(0, LAYERS, blocks)
    with pytest.raises(IndexError, match=r"layers 0\.\.9 of 4"):
        cache.rows(0, 9, [0])
    assert cache.rows(0, LAYERS, []).size_bytes == 0


@pytest.mark.parametrize(("blocks", "block_tokens"), [(0, 4), (4, 0)])
def test_a_cache_of_nothing_is_refused_by_its_numbers(blocks: int, block_tokens: int) -> None:
    with pytest.raises(ModelError, match=rf"\({blocks}\).*\({block_tokens}\)"):
        KvCache(SPEC, blocks, block_tokens)


def test_a_payload_of_another_size_is_refused_and_writes_nothing() -> None:
    cache = KvCache(SPEC, BLOCKS, BLOCK_TOKENS)
    with pytest.raises(RuntimeError):
        cache.write(0, 1, [0, 1], torch.ones(1, 2, 1, KV_HEADS, BLOCK_TOKENS, HEAD_SIZE))
    assert not cache.tensor.any()


def test_a_run_that_is_read_and_written_at_once_comes_and_goes_in_pieces() -> None:
    """As on a GPU."""
    data = torch.arange(100, dtype=torch.uint8)
    written: list[torch.Tensor] = []
    run = WholeRows(100, lambda: data, written.append)
    pieces = [torch.zeros(size, dtype=torch.uint8) for size in (48, 48, 4)]
    for start, piece in zip((0, 48, 96), pieces, strict=True):
        run.gather(start, piece)
    assert torch.equal(torch.cat(pieces), data)
    for start, piece in zip((0, 48, 96), pieces, strict=True):
        assert written == []
        run.scatter(start, piece)
    assert torch.equal(written[0], data)


def test_a_copy_for_an_earlier_lease_of_its_move_writes_nothing(sides: tuple[Side, Side]) -> None:
    source, target = sides
    before = target.blocks.cache.tensor.clone()
    target.copier.open_lease(OpenLease(move_id=MOVE, lease=2))
    source.send(copy_of([0], [0]))
    target.said()
    assert torch.equal(target.blocks.cache.tensor, before)
