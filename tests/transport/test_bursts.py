"""When a pair's thread posts and when it waits: seen from the pair."""

import threading
from dataclasses import replace
from queue import Queue

import pytest
import torch
from flat import FlatPayload
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import (
    Announced,
    CopyResult,
    ParcelHeader,
    TransportLimits,
    Way,
)
from splitweave.workers.live.transport.backend import Pair, Pending
from splitweave.workers.live.transport.backlog import Grouping
from splitweave.workers.live.transport.ending import Ending
from splitweave.workers.live.transport.framing import frame_bytes, messages
from splitweave.workers.live.transport.jobs import Outgoing, OutParcel
from splitweave.workers.live.transport.pair_loop import PairLoop
from splitweave.workers.live.transport.xxh3 import Xxh3

WAIT_S = 20.0
KEY = WorkerKey(WorkerId("a"), Incarnation(1))
LIMITS = TransportLimits(chunk_bytes=64, open_timeout_s=2.0, copy_timeout_s=5.0)


class ScribePair:
    """Takes every message at once, and writes down posts (p) and waits (w)."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.written = ""
        self.pending = self.pending_max = 0

    def place(self, number: int, size_bytes: int) -> torch.Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8)

    def send(self, place: torch.Tensor, number: int) -> Pending:
        self.written += "p"
        self.pending += 1
        self.pending_max = max(self.pending_max, self.pending)
        return self

    recv = send

    def wait(self, timeout_s: float) -> None:
        self.written += "w"
        self.pending -= 1

    def release(self, number: int) -> None: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


def parcel(copies: list[Outgoing]) -> OutParcel:
    header = ParcelHeader(
        source=KEY, pairing=1, pair_nonce="n", sequence=0, first_number=0,
        chunk_bytes=LIMITS.chunk_bytes, way=Way.NETWORK,
        copies=tuple(
            Announced(copy_id=copy.copy.copy_id, transfer_bytes=copy.size_bytes) for copy in copies
        ),
    )  # fmt: skip
    return OutParcel(copies=copies, send_header=lambda _: header)


@pytest.fixture
def ends() -> "Queue[CopyResult]":
    return Queue()


def write_down(slots: int, sizes: list[int], ends: "Queue[CopyResult]") -> ScribePair:
    """What a pair with so many slots sees of copies that wait together."""
    pair, offered = ScribePair(slots), threading.Event()

    def open_pair() -> Pair:
        assert offered.wait(WAIT_S)
        return pair

    loop = PairLoop("scribe", open_pair, Grouping(LIMITS, parcel), LIMITS, 60.0)
    for number, size in enumerate(sizes):
        name = str(number)
        copy = Copy(
            copy_id=name, move_id=MoveId("m"),
                lease=1, target=KEY, first_layer=0, last_layer=1,
            source_blocks=(), target_blocks=(),
        )  # fmt: skip
        payload = FlatPayload(torch.zeros(size, dtype=torch.uint8))
        loop.offer(
            Outgoing(copy=copy, payload=payload, ending=Ending(name, ends.put), checksum=Xxh3())
        )
    offered.set()
    for _ in sizes:
        assert ends.get(timeout=WAIT_S).ok
    loop.kill("done")
    assert loop.join(WAIT_S)
    return pair


@pytest.mark.parametrize(
    ("slots", "written"),
    [
        (1, "pw" * 10),
        (2, "pp" + "wp" * 8 + "ww"),
        (4, "pppp" + "wwpp" * 3 + "wwww"),
        (8, "pppppppp" + "wwwwpp" + "wwwwww"),
        (16, "p" * 10 + "w" * 10),
    ],
)
def test_messages_are_posted_in_bursts_of_half_the_slots(
    slots: int, written: str, ends: "Queue[CopyResult]"
) -> None:
    size = 10 * LIMITS.chunk_bytes - 16
    assert len(list(messages([size], LIMITS.chunk_bytes))) == 10
    assert write_down(slots, [size], ends).written == written


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
def test_many_copies_all_go_and_never_more_at_once_than_slots(
    slots: int, ends: "Queue[CopyResult]"
) -> None:
    sizes = [0, 16, 48, 49, 500, 1, 64, 1000, 0, 48] * 3
    pair = write_down(slots, sizes, ends)
    assert pair.pending == 0
    assert pair.pending_max == slots
    assert pair.written.count("p") == pair.written.count("w")


def test_a_default_message_holds_round_copies_and_their_markers() -> None:
    chunk = TransportLimits().chunk_bytes
    mib = 1 << 20
    for sizes in ([mib], [2 * mib], [8 * mib], [mib // 2] * 2, [mib // 16] * 16):
        cut = list(messages(sizes, chunk))
        assert len(cut) == sum(sizes) // mib, sizes
        assert sum(message.size_bytes for message in cut) == sum(map(frame_bytes, sizes))


def test_copies_of_a_round_size_share_a_parcel_of_one_message() -> None:
    limits = replace(LIMITS, chunk_bytes=TransportLimits().chunk_bytes)
    backlog = Grouping(limits, parcel)
    half = FlatPayload(torch.zeros(1 << 19, dtype=torch.uint8))
    for number in range(4):
        copy = Copy(
            copy_id=str(number), move_id=MoveId("m"),
                lease=1, target=KEY, first_layer=0, last_layer=1,
            source_blocks=(), target_blocks=(),
        )  # fmt: skip
        ending = Ending(str(number), lambda _: None)
        backlog.add(Outgoing(copy=copy, payload=half, ending=ending, checksum=Xxh3()))
    first, second = backlog.pop(), backlog.pop()
    assert first is not None
    assert second is not None
    assert [len(first.copies), len(second.copies)] == [2, 2]
