"""The rendezvous store against odd clients, and copies of every size through chunks of any."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Queue
from typing import Any

import pytest
import torch
from flat import FlatLanding, FlatPayload
from hypothesis import given, settings
from hypothesis import strategies as st
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
from splitweave.workers.live.transport.backend import (
    SOURCE_RANK,
    TARGET_RANK,
    Pair,
    PairBackend,
    PairStore,
    Rendezvous,
)
from splitweave.workers.live.transport.backlog import InSequence
from splitweave.workers.live.transport.ending import Ending
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.jobs import InParcel
from splitweave.workers.live.transport.memory import MemoryBackend
from splitweave.workers.live.transport.store import LINE_BYTES_MAX, HostedStore, RemotePairStore

WAIT_S = 60.0
A, B = (WorkerKey(WorkerId(name), Incarnation(1)) for name in "ab")
LIMITS = TransportLimits(open_timeout_s=50.0, copy_timeout_s=50.0)
SEEDED = settings(derandomize=True, deadline=None, max_examples=60)


def copy_of(name: str) -> Copy:
    return Copy(
        copy_id=name,
        move_id=MoveId("m"),
        lease=1,
        target=B,
        first_layer=0,
        last_layer=1,
        source_blocks=(),
        target_blocks=(),
    )


class Line:
    """Two transports; what arrives and what ends, in order, by side."""

    def __init__(
        self, limits: TransportLimits = LIMITS, target_limits: TransportLimits = LIMITS
    ) -> None:
        self.sent: Queue[CopyResult] = Queue()
        self.landed: Queue[CopyResult] = Queue()
        self.arrived: dict[str, torch.Tensor] = {}
        self.headers: list[ParcelHeader] = []
        self.source = Transport(A, "127.0.0.1", self._announce, limits=limits)
        self.target = Transport(B, "127.0.0.1", self._announce, limits=target_limits)

    def _announce(self, target: Any, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        self.headers.append(header)
        self.receive(header)

    def receive(self, header: ParcelHeader) -> None:
        landings = {copy.copy_id: FlatLanding(copy.transfer_bytes) for copy in header.copies}
        self.arrived |= {name: landing.tensor for name, landing in landings.items()}
        self.target.receive(header, list(landings.values()), self.landed.put)

    def send(self, name: str, payload: Any) -> None:
        """A tensor, or what makes one of one float."""
        made = FlatPayload(make=payload, size=4) if callable(payload) else FlatPayload(payload)
        self.source.send(self.target.endpoint, copy_of(name), made, self.sent.put)

    def close(self) -> None:
        self.source.close()
        self.target.close()


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.close()


@pytest.mark.parametrize("chunk_bytes", [16, 48, 64, 4096])
def test_copies_at_every_edge_of_a_chunk_arrive_whole_in_order(chunk_bytes: int) -> None:
    line = Line(replace(LIMITS, chunk_bytes=chunk_bytes, in_flight_max=3))
    sizes = [0, 1, chunk_bytes - 1, chunk_bytes, chunk_bytes + 1, 5 * chunk_bytes + 2, 0]
    seeded = torch.Generator().manual_seed(chunk_bytes)
    payloads = [torch.randint(256, (n,), generator=seeded).byte() for n in sizes]
    for place, payload in enumerate(payloads):
        line.send(str(place), payload)
    for place, payload in enumerate(payloads):
        result = line.landed.get(timeout=WAIT_S)
        assert (result.copy_id, result.error, result.transfer_bytes) == (
            str(place), None, payload.numel(),
        )  # fmt: skip
        assert torch.equal(line.arrived[str(place)], payload)
    assert [header.sequence for header in line.headers] == list(range(len(line.headers)))
    line.close()


def test_threads_that_send_at_once_each_keep_their_order_and_lose_nothing(line: Line) -> None:
    def send_all(name: str) -> None:
        for number in range(25):
            line.send(f"{name}{number}", torch.full((100,), number))

    threads = [threading.Thread(target=send_all, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    landed = [line.landed.get(timeout=WAIT_S) for _ in range(75)]
    assert all(result.ok for result in landed)
    for name in "xyz":
        mine = [result.copy_id for result in landed if result.copy_id[0] == name]
        assert mine == [f"{name}{number}" for number in range(25)]


def test_a_payload_is_gathered_when_its_turn_comes_and_not_before(line: Line) -> None:
    order: list[str] = []
    gathering, go = threading.Event(), threading.Event()

    def first() -> torch.Tensor:
        gathering.set()
        assert go.wait(WAIT_S)
        order.append("first")
        return torch.ones(1)

    line.send("first", first)
    line.send("second", lambda: (order.append("second"), torch.ones(1))[1])
    assert gathering.wait(WAIT_S)
    assert order == []
    go.set()
    assert [line.sent.get(timeout=WAIT_S).ok for _ in range(2)] == [True, True]
    assert order == ["first", "second"]


@pytest.mark.parametrize("closer", ["source", "target"])
def test_a_pair_closed_while_idle_is_built_anew_by_the_next_copy(line: Line, closer: str) -> None:
    line.send("first", torch.ones(9))
    assert line.landed.get(timeout=WAIT_S).ok
    assert line.sent.get(timeout=WAIT_S).ok
    line.source.close_pair(B)
    if closer == "target":
        line.target.close_pair(A)
    line.target.close_pair(WorkerKey(WorkerId("nobody"), Incarnation(1)))
    line.send("second", torch.ones(9))
    result = line.landed.get(timeout=WAIT_S)
    assert (result.copy_id, result.error) == ("second", None)
    assert [header.pairing for header in line.headers] == [1, 2]
    assert len({header.pair_nonce for header in line.headers}) == 2


def test_a_header_with_another_nonce_never_meets_its_source() -> None:
    """The prefix is the nonce's: a stale pairing number alone opens nothing."""
    line = Line(target_limits=replace(LIMITS, open_timeout_s=2.0))
    line.send("first", torch.ones(9))
    assert line.landed.get(timeout=WAIT_S).ok
    forged = replace(line.headers[0], pairing=9, pair_nonce="other")
    line.receive(forged)
    assert not line.landed.get(timeout=WAIT_S).ok
    assert not line.arrived["first"].any()
    line.close()


# ---- the store


@pytest.fixture
def hosted() -> Iterator[HostedStore]:
    hosted = HostedStore("127.0.0.1", WAIT_S)
    yield hosted
    hosted.close()


ODD_LINES = {
    "not json": b"hello\n",
    "no object": b"[1]\n",
    "no op": b"{}\n",
    "unknown op": b'{"op": "drop"}\n',
    "no key": b'{"op": "get"}\n',
    "not hex": b'{"op": "set", "key": "k", "value": "zz"}\n',
    "keys of another kind": b'{"op": "wait", "keys": 3, "timeout_s": 0.1}\n',
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_question_is_answered_with_an_error_and_the_next_one_heard(
    hosted: HostedStore, name: str
) -> None:
    with (
        socket.create_connection(("127.0.0.1", hosted.port), WAIT_S) as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(ODD_LINES[name])
        assert list(json.loads(answers.readline())) == ["error"]
        client.sendall(b'{"op": "set", "key": "k", "value": "00ff"}\n')
        assert json.loads(answers.readline()) == {}
        client.sendall(b'{"op": "get", "key": "k"}\n')
        assert json.loads(answers.readline()) == {"value": "00ff"}


def test_a_line_without_end_costs_its_connection_bounded_memory_and_nobody_else(
    hosted: HostedStore,
) -> None:
    with (
        socket.create_connection(("127.0.0.1", hosted.port), WAIT_S) as client,
        client.makefile("rb") as answers,
    ):
        client.sendall(b"x" * LINE_BYTES_MAX)
        assert b"error" in answers.readline()
    other = RemotePairStore("127.0.0.1", hosted.port, "pair", WAIT_S)
    other.torch_store.set("key", "value")
    assert hosted.pair_store("pair").torch_store.get("key") == b"value"
    other.forget()


def test_a_wait_for_what_never_comes_ends_at_the_stores_timeout_and_says_so(
    hosted: HostedStore,
) -> None:
    far = RemotePairStore("127.0.0.1", hosted.port, "pair", 1.0)
    with pytest.raises(RuntimeError):
        far.torch_store.get("never")
    far.torch_store.set("now", "here")
    assert far.torch_store.get("now") == b"here"
    far.forget()


def test_pairs_do_not_see_each_others_keys_and_forget_only_their_own() -> None:
    hosted = HostedStore("127.0.0.1", 0.3)  # so long a key that never comes is waited for
    one, two = hosted.pair_store("one/"), hosted.pair_store("two/")
    for near, value in ((one, "1"), (two, "2")):
        near.torch_store.set("key", value)
    one.forget()
    assert two.torch_store.get("key") == b"2"
    with pytest.raises(RuntimeError):
        one.torch_store.get("key")
    hosted.close()


@pytest.mark.parametrize("backend", [lambda: GlooBackend("127.0.0.1"), MemoryBackend])
def test_a_source_that_has_met_its_target_hangs_up_and_the_pair_goes_on(
    backend: Callable[[], PairBackend], hosted: HostedStore
) -> None:
    ends: dict[int, Pair] = {}
    far = RemotePairStore("127.0.0.1", hosted.port, "pair", WAIT_S)
    stores: dict[int, PairStore] = {SOURCE_RANK: far, TARGET_RANK: hosted.pair_store("pair")}

    def open_end(rank: int) -> None:
        ends[rank] = backend().open(
            Rendezvous(store=stores[rank], rank=rank, timeout_s=WAIT_S, slots=1,
                       slot_bytes=64, name="pair")
        )  # fmt: skip

    threads = [threading.Thread(target=open_end, args=(rank,)) for rank in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    with pytest.raises(OSError):  # noqa: PT011  whatever a closed socket says
        far.torch_store.set("key", "value")
    place, arrived = ends[SOURCE_RANK].place(0, 64), ends[TARGET_RANK].place(0, 64)
    place[:] = 7
    receiving = ends[TARGET_RANK].recv(arrived, 0)
    sent = ends[SOURCE_RANK].send(place, 0)
    receiving.wait(WAIT_S)
    ends[TARGET_RANK].release(0)
    sent.wait(WAIT_S)
    assert arrived.tolist() == [7] * 64
    for end in ends.values():
        end.close()


def test_a_store_that_is_closed_is_out_of_reach() -> None:
    hosted = HostedStore("127.0.0.1", 0.3)
    hosted.close()
    with pytest.raises(OSError, match="refused"):
        RemotePairStore("127.0.0.1", hosted.port, "pair", 0.3)


# ---- order and ends


@SEEDED
@given(order=st.permutations(range(7)), early=st.integers(0, 7))
def test_headers_in_any_order_come_out_in_sequence_as_soon_as_they_can(
    order: list[int], early: int
) -> None:
    backlog, out = InSequence(queue_len_max=7), []
    for place, sequence in enumerate(order):
        header = ParcelHeader(
            source=A, pairing=1, pair_nonce="n", sequence=sequence, first_number=sequence,
            chunk_bytes=16, way=Way.NETWORK,
            copies=(Announced(copy_id=str(sequence), transfer_bytes=1),),
        )  # fmt: skip
        assert backlog.add(InParcel(header=header)) is None
        if place >= early:  # before that, nobody takes any
            while (ready := backlog.pop()) is not None:
                out.append(int(ready.header.sequence))
            seen = set(order[: place + 1])
            assert out == list(range(next(n for n in range(8) if n not in seen)))
    assert len(backlog) == 7 - len(out)


def test_of_ends_that_race_exactly_one_is_told() -> None:
    for _ in range(50):
        told: list[CopyResult] = []
        ending = Ending("x", told.append)
        together = threading.Barrier(3)

        def end(ending: Ending = ending, together: threading.Barrier = together) -> None:
            together.wait(WAIT_S)
            ending.fail("raced")

        threads = [threading.Thread(target=end) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert len(told) == 1
