"""The parts of the transport that need no second process, and its refusals."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import CopyHeader, CopyResult, Transport, TransportLimits
from splitweave.workers.live.transport.backend import PairError
from splitweave.workers.live.transport.backlog import Fifo, InSequence
from splitweave.workers.live.transport.ending import Ending
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.jobs import Incoming
from splitweave.workers.live.transport.nccl import position_sum
from splitweave.workers.live.transport.store import HostedStore, RemotePairStore

A = WorkerKey(WorkerId("a"), Incarnation(1))
B = WorkerKey(WorkerId("b"), Incarnation(1))
WAIT_S = 20.0
LIMITS = TransportLimits(open_timeout_s=2.0, copy_timeout_s=2.0)


def header(sequence: int = 0) -> CopyHeader:
    return CopyHeader(
        copy_id=f"copy{sequence}",
        source=A,
        pairing=1,
        pair_nonce="nonce",
        sequence=sequence,
        transfer_bytes=10,
        chunk_bytes=4,
        checksum=0,
    )


def incoming(sequence: int) -> Incoming:
    return Incoming(
        header=header(sequence),
        into=lambda payload: None,
        backend=GlooBackend("127.0.0.1"),
        ending=Ending("copy", lambda result: None),
    )


def copy_of(copy_id: str) -> Copy:
    return Copy(
        copy_id=copy_id,
        move_id=MoveId("move"),
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
        self.into: Any = lambda payload: None
        self.source = Transport(A, "127.0.0.1", self._announce, limits=limits)
        self.target = Transport(B, "127.0.0.1", self._announce, limits=limits)

    def send(self, copy_id: str, payload: Any) -> None:
        self.source.send(self.target.endpoint, copy_of(copy_id), payload, self.sent)

    def close(self) -> None:
        self.source.close()
        self.target.close()

    def _announce(self, target: Any, header: CopyHeader, copy: Copy) -> None:
        self.target.receive(header, self.into, self.landed)


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
    arrived: list[torch.Tensor] = []
    duo.into = arrived.append
    payload = torch.randn(6, 8).to(torch.bfloat16).t()
    duo.send("x", payload)
    assert duo.landed.wait(1)["x"].ok
    assert torch.equal(arrived[0].view(torch.bfloat16).reshape(8, 6), payload)


def test_a_payload_that_fails_costs_that_copy_only(duo: Duo) -> None:
    duo.send("x", lambda: 1 / 0)
    duo.send("y", torch.ones(3))
    ends = duo.sent.wait(2)
    assert "division" in str(ends["x"].error)
    assert ends["y"].ok


def test_an_into_that_fails_costs_that_copy_only(duo: Duo) -> None:
    fails = iter([True, False])
    duo.into = lambda payload: 1 / 0 if next(fails) else None
    duo.send("x", torch.ones(3))
    duo.send("y", torch.ones(3))
    ends = duo.landed.wait(2)
    assert "division" in str(ends["x"].error)
    assert ends["y"].ok


def test_a_callback_that_raises_harms_no_other_copy(duo: Duo) -> None:
    duo.source.send(duo.target.endpoint, copy_of("x"), torch.ones(3), lambda result: 1 / 0)
    duo.send("y", torch.ones(3))
    assert duo.sent.wait(1)["y"].ok


def test_a_header_that_cannot_be_sent_fails_the_copy() -> None:
    def no_rpc(*arguments: Any) -> None:
        raise ConnectionError("worker is gone")

    results = Results()
    transport = Transport(A, "127.0.0.1", no_rpc, limits=LIMITS)
    transport.send(transport.endpoint, copy_of("x"), torch.ones(3), results)
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
    duo.target.receive(header(), duo.into, duo.landed)
    assert not duo.landed.wait(1)["copy0"].ok
    duo.close()


def test_pairs_max_busy_pairs_refuse_another() -> None:
    duo = Duo(replace(LIMITS, pairs_max=1))
    go = threading.Event()
    duo.send("x", lambda: (go.wait(WAIT_S), torch.ones(3))[1])
    elsewhere = replace(duo.target.endpoint, worker=WorkerKey(WorkerId("c"), Incarnation(1)))
    duo.source.send(elsewhere, copy_of("y"), torch.ones(3), duo.sent)
    assert "pairs_max (1)" in str(duo.sent.wait(1)["y"].error)
    go.set()
    assert duo.sent.wait(2)["x"].ok
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


def test_a_fifo_is_bounded_and_in_order() -> None:
    backlog, jobs = Fifo(2), [incoming(0), incoming(1)]
    assert [backlog.add(job) for job in jobs] == [None, None]
    assert "queue_len_max (2)" in str(backlog.add(incoming(2)))
    assert [backlog.pop(), backlog.pop(), backlog.pop()] == [*jobs, None]


def test_a_pairs_keys_leave_the_store_with_it() -> None:
    hosted = HostedStore("127.0.0.1", 2.0)
    near = hosted.pair_store("pair")
    far = RemotePairStore("127.0.0.1", hosted.port, "pair", 2.0)
    far.torch_store.set("key", "value")
    assert near.torch_store.get("key") == b"value"
    assert far.torch_store.get("key") == b"value"
    near.forget()
    with pytest.raises(RuntimeError):
        far.torch_store.get("key")
    far.forget()
    hosted.close()


@pytest.mark.parametrize("name", ["chunk_bytes", "in_flight_max", "copy_timeout_s"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TransportLimits(**{name: 0})


def test_the_device_checksum_sees_changed_bytes_and_swapped_words() -> None:
    data = torch.arange(100, dtype=torch.uint8)
    swapped = torch.cat([data[8:16], data[:8], data[16:]])
    changed = data.clone()
    changed[99] += 1
    assert len({position_sum(data), position_sum(swapped), position_sum(changed)}) == 3
    assert position_sum(data) == position_sum(data.clone())
    assert position_sum(data[:0]) == 0
