"""The parts of the transport that need no second process, and its refusals."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from flat import FlatLanding, FlatPayload
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import (
    Announced,
    CopyResult,
    ParcelHeader,
    Transport,
    TransportLimits,
    Way,
)
from splitweave.workers.live.transport.backend import Checksum, PairError
from splitweave.workers.live.transport.backlog import Grouping, InSequence
from splitweave.workers.live.transport.ending import Ending
from splitweave.workers.live.transport.jobs import InParcel, Outgoing, OutParcel
from splitweave.workers.live.transport.nccl import PositionSum
from splitweave.workers.live.transport.store import HostedStore, RemotePairStore
from splitweave.workers.live.transport.xxh3 import Xxh3

A = WorkerKey(WorkerId("a"), Incarnation(1))
B = WorkerKey(WorkerId("b"), Incarnation(1))
WAIT_S = 60.0
LIMITS = TransportLimits(open_timeout_s=50.0, copy_timeout_s=50.0)


def header(sequence: int = 0) -> ParcelHeader:
    return ParcelHeader(
        source=A,
        pairing=1,
        pair_nonce="nonce",
        sequence=sequence,
        first_number=sequence,
        chunk_bytes=16,
        way=Way.NETWORK,
        copies=(Announced(copy_id=f"copy{sequence}", transfer_bytes=10),),
    )


def incoming(sequence: int) -> InParcel:
    return InParcel(header=header(sequence))


def outgoing(copy_id: str, size: int = 10) -> Outgoing:
    return Outgoing(
        copy=copy_of(copy_id),
        payload=FlatPayload(torch.zeros(size, dtype=torch.uint8)),
        ending=Ending(copy_id, lambda result: None),
        checksum=Xxh3(),
    )


def out_parcel(copies: Sequence[Outgoing]) -> OutParcel:
    return OutParcel(copies=copies, send_header=lambda _: header())


def copy_of(copy_id: str) -> Copy:
    return Copy(
        copy_id=copy_id,
        move_id=MoveId("move"),
        lease=1,
        target=B,
        first_layer=0,
        last_layer=1,
        source_blocks=(),
        target_blocks=(),
    )


class Results:
    """Collects ends; `wait` is bounded."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.ends: list[CopyResult] = []

    def __call__(self, result: CopyResult) -> None:
        with self._changed:
            self.ends.append(result)
            self._changed.notify_all()

    def wait(self, count: int) -> dict[str, CopyResult]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ends) >= count, WAIT_S)
            assert len({end.copy_id for end in self.ends}) == len(self.ends)
            return {end.copy_id: end for end in self.ends}


class Duo:
    """Two transports in this process, the RPC between them a call."""

    def __init__(self, limits: TransportLimits = LIMITS) -> None:
        self.sent, self.landed = Results(), Results()
        self.before: Any = lambda piece: None
        self.landings: list[FlatLanding] = []
        self.source = Transport(A, "127.0.0.1", self._announce, limits=limits)
        self.target = Transport(B, "127.0.0.1", self._announce, limits=limits)

    def send(self, copy_id: str, payload: Any) -> None:
        """A tensor, or what makes one of three floats."""
        made = FlatPayload(make=payload, size=12) if callable(payload) else FlatPayload(payload)
        self.source.send(self.target.endpoint, copy_of(copy_id), made, self.sent)

    def close(self) -> None:
        self.source.close()
        self.target.close()

    def _announce(self, target: Any, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        landings = [FlatLanding(copy.transfer_bytes, self.before) for copy in header.copies]
        self.landings += landings
        self.target.receive(header, landings, self.landed)


@pytest.fixture
def duo() -> Any:
    duo = Duo()
    yield duo
    duo.close()


def test_a_full_queue_refuses_and_what_it_holds_still_goes() -> None:
    duo = Duo(replace(LIMITS, queue_len_max=2))
    gathering, go = threading.Event(), threading.Event()

    def slow() -> torch.Tensor:
        gathering.set()
        assert go.wait(WAIT_S)
        return torch.ones(3)

    duo.send("x", slow)
    assert gathering.wait(WAIT_S)
    for name in "yzu":
        duo.send(name, torch.ones(3))
    refused = duo.sent.wait(1)
    assert list(refused) == ["u"]
    assert "queue_len_max (2)" in str(refused["u"].error)
    go.set()
    assert [duo.sent.wait(4)[name].ok for name in "xyz"] == [True] * 3
    duo.close()


def test_any_dtype_and_any_strides_arrive_as_bytes(duo: Duo) -> None:
    payload = torch.randn(6, 8).to(torch.bfloat16).t()
    duo.send("x", payload)
    assert duo.landed.wait(1)["x"].ok
    assert torch.equal(duo.landings[0].tensor.view(torch.bfloat16).reshape(8, 6), payload)


def no_such_blocks(*arguments: Any) -> Any:
    raise IndexError("no such blocks")


def test_a_payload_that_fails_costs_that_copy_only_on_both_sides(duo: Duo) -> None:
    duo.send("x", no_such_blocks)
    duo.send("y", torch.ones(3))
    ends = duo.sent.wait(2)
    assert "no such blocks" in str(ends["x"].error)
    assert ends["y"].ok
    landed = duo.landed.wait(2)
    assert "its source could not read it" in str(landed["x"].error)
    assert landed["y"].ok


def test_a_landing_that_fails_costs_that_copy_only(duo: Duo) -> None:
    fails = iter([True, False])
    duo.before = lambda piece: no_such_blocks() if next(fails) else None
    duo.send("x", torch.ones(3))
    duo.send("y", torch.ones(3))
    ends = duo.landed.wait(2)
    assert "no such blocks" in str(ends["x"].error)
    assert ends["y"].ok


def test_a_landing_of_another_size_takes_nothing_and_costs_that_copy_only(duo: Duo) -> None:
    touched: list[torch.Tensor] = []
    landing = FlatLanding(99, touched.append)
    announce = duo._announce
    duo.source._announce = lambda _, header, copies: duo.target.receive(
        header, [landing], duo.landed
    )
    duo.send("x", torch.ones(3))
    assert "12 bytes were announced for a place of 99" in str(duo.landed.wait(1)["x"].error)
    duo.source._announce = announce
    duo.send("y", torch.ones(3))
    assert touched == []


def test_an_error_of_the_callers_ends_the_pair_and_the_next_copy_pairs_anew(duo: Duo) -> None:
    duo.send("x", lambda: 1 / 0)
    assert "ZeroDivisionError" in str(duo.sent.wait(1)["x"].error)
    duo.send("y", torch.ones(3))
    assert duo.sent.wait(2)["y"].ok


def test_a_callback_that_raises_harms_no_other_copy(duo: Duo) -> None:
    def closed(result: CopyResult) -> None:
        raise RuntimeError("Event loop is closed")

    payload = FlatPayload(torch.ones(3))
    duo.source.send(duo.target.endpoint, copy_of("x"), payload, closed)
    duo.send("y", torch.ones(3))
    assert duo.sent.wait(1)["y"].ok


def test_a_header_that_cannot_be_sent_fails_the_copy() -> None:
    def no_rpc(*arguments: Any) -> None:
        raise ConnectionError("worker is gone")

    results = Results()
    transport = Transport(A, "127.0.0.1", no_rpc, limits=LIMITS)
    payload = FlatPayload(torch.ones(3))
    transport.send(transport.endpoint, copy_of("x"), payload, results)
    assert "worker is gone" in str(results.wait(1)["x"].error)
    transport.close()


def test_a_copy_beyond_the_limit_is_refused_by_name() -> None:
    duo = Duo(replace(LIMITS, copy_bytes_max=8))
    duo.send("x", torch.ones(3))
    assert "copy_bytes_max (8)" in str(duo.sent.wait(1)["x"].error)
    duo.close()


def test_a_closed_transport_refuses_and_closes_again() -> None:
    duo = Duo()
    duo.close()
    duo.send("x", torch.ones(3))
    assert duo.sent.wait(1)["x"].error == "transport is closed"
    duo.target.receive(header(), [FlatLanding(10)], duo.landed)
    assert not duo.landed.wait(1)["copy0"].ok
    duo.close()


def test_pairs_max_busy_pairs_refuse_another() -> None:
    duo = Duo(replace(LIMITS, pairs_max=1))
    go = threading.Event()
    duo.send("x", lambda: (go.wait(WAIT_S), torch.ones(3))[1])
    elsewhere = replace(duo.target.endpoint, worker=WorkerKey(WorkerId("c"), Incarnation(1)))
    duo.source.send(elsewhere, copy_of("y"), FlatPayload(torch.ones(3)), duo.sent)
    assert "pairs_max (1)" in str(duo.sent.wait(1)["y"].error)
    go.set()
    assert duo.sent.wait(2)["x"].ok
    duo.close()


def test_who_is_told_of_a_copys_end_may_use_its_pairs_place_at_once() -> None:
    """It was refused, now and then: the pair took itself for busy until it had told everyone."""
    duo = Duo(replace(LIMITS, pairs_max=1))
    told, go_on = threading.Event(), threading.Event()

    def end(result: CopyResult) -> None:
        duo.sent(result)
        told.set()
        assert go_on.wait(WAIT_S)

    duo.source.send(duo.target.endpoint, copy_of("x"), FlatPayload(torch.ones(3)), end)
    assert told.wait(WAIT_S)
    elsewhere = replace(duo.target.endpoint, worker=WorkerKey(WorkerId("c"), Incarnation(1)))
    duo.source.send(elsewhere, copy_of("y"), FlatPayload(torch.ones(3)), duo.sent)
    go_on.set()
    ends = duo.sent.wait(2)
    assert (ends["x"].error, ends["y"].error) == (None, None)
    duo.close()


def test_a_copy_ends_once() -> None:
    results = Results()
    ending = Ending("x", results)
    ending.fail("first")
    ending.succeed(10)
    ending.fail("second")
    assert [end.error for end in results.ends] == ["first"]


def test_the_reorder_buffer_gives_jobs_in_sequence_and_each_once() -> None:
    backlog = InSequence(queue_len_max=3)
    jobs = [incoming(sequence) for sequence in range(4)]
    assert backlog.add(jobs[2]) is None
    assert backlog.pop() is None
    assert backlog.add(jobs[0]) is None
    assert backlog.pop() is jobs[0]
    assert "twice" in str(backlog.add(incoming(0)))
    assert "twice" in str(backlog.add(incoming(2)))
    assert backlog.add(jobs[1]) is None
    assert [backlog.pop(), backlog.pop(), backlog.pop()] == [jobs[1], jobs[2], None]


def test_the_reorder_buffer_is_bounded() -> None:
    backlog = InSequence(queue_len_max=1)
    backlog.add(incoming(5))
    with pytest.raises(PairError, match="queue_len_max"):
        backlog.add(incoming(4))
    assert len(backlog.drain()) == 1
    assert len(backlog) == 0


def test_a_senders_queue_is_bounded_and_in_order() -> None:
    backlog = Grouping(replace(LIMITS, queue_len_max=2, group_max=1), out_parcel)
    copies = [outgoing("x"), outgoing("y")]
    assert [backlog.add(copy) for copy in copies] == [None, None]
    assert "queue_len_max (2)" in str(backlog.add(outgoing("z")))
    assert len(backlog) == 2
    assert [backlog.pop().copies for _ in copies] == [[copy] for copy in copies]
    assert backlog.pop() is None


def test_copies_are_grouped_in_order_up_to_a_message_and_up_to_group_max() -> None:
    backlog = Grouping(replace(LIMITS, chunk_bytes=1024, group_max=3), out_parcel)
    for copy in (*(outgoing(name, 100) for name in "abcd"), outgoing("big", 960), outgoing("e")):
        backlog.add(copy)
    groups = []
    while (parcel := backlog.pop()) is not None:
        groups.append([copy.copy.copy_id for copy in parcel.copies])
    assert groups == [["a", "b", "c"], ["d"], ["big", "e"]]


def test_a_pairs_keys_leave_the_store_with_it() -> None:
    hosted = HostedStore("127.0.0.1", WAIT_S)
    near = hosted.pair_store("pair")
    far = RemotePairStore("127.0.0.1", hosted.port, "pair", WAIT_S)
    hasty = RemotePairStore("127.0.0.1", hosted.port, "pair", 1.0)
    far.torch_store.set("key", "value")
    assert near.torch_store.get("key") == b"value"
    assert far.torch_store.get("key") == b"value"
    near.forget()
    with pytest.raises(RuntimeError):
        hasty.torch_store.get("key")
    for store in (far, hasty):
        store.forget()
    hosted.close()


@pytest.mark.parametrize("name", ["chunk_bytes", "in_flight_max", "copy_timeout_s"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TransportLimits(**{name: 0})


def digest(checksum: Checksum, *pieces: torch.Tensor) -> int:
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest()


@pytest.mark.parametrize("make", [PositionSum, Xxh3])
def test_a_checksum_sees_changed_bytes_and_swapped_words_and_no_pieces(make: Any) -> None:
    data = torch.arange(100, dtype=torch.uint8)
    swapped = torch.cat([data[8:16], data[:8], data[16:]])
    changed = data.clone()
    changed[99] += 1
    assert len({digest(make(), each) for each in (data, swapped, changed)}) == 3
    assert digest(make(), data) == digest(make(), data[:16], data[16:64], data[64:])
    assert digest(make()) == digest(make(), data[:0])
