"""The way through shared memory: when it is taken, what it refuses, and that nothing is left."""

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kv_mesh import MIB, Mesh
from splitweave.proto.ids import Incarnation, WorkerId, WorkerKey
from splitweave.workers.live.transport import Endpoint, Way, Ways
from splitweave.workers.live.transport.backend import PairError, Rendezvous
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.memory import KEY, SHAPE, MemoryBackend, host_id
from splitweave.workers.live.transport.store import HostedStore, RemotePairStore

B = WorkerKey(WorkerId("b"), Incarnation(1))
WAIT_S = 60.0


def endpoint(host: str) -> Endpoint:
    return Endpoint(worker=B, host="127.0.0.1", port=1, host_id=host)


def both() -> Ways:
    return Ways(GlooBackend("127.0.0.1"), MemoryBackend(), "here")


@pytest.mark.parametrize(
    ("target", "way"),
    [("here", Way.MEMORY), ("there", Way.NETWORK), ("", Way.NETWORK)],
)
def test_memory_is_for_a_target_of_the_same_host_that_wants_it(target: str, way: Way) -> None:
    assert both().to(endpoint(target)) is way


def test_a_worker_without_memory_uses_the_network_even_with_one_like_it() -> None:
    ways = Ways(GlooBackend("127.0.0.1"), None, "")
    assert ways.to(endpoint("")) is Way.NETWORK
    assert ways.backend(Way.MEMORY) is None


def test_memory_that_once_failed_to_open_is_not_tried_again_with_that_life() -> None:
    ways = both()
    ways.give_up_memory(B)
    assert ways.to(endpoint("here")) is Way.NETWORK
    other = Endpoint(worker=WorkerKey(WorkerId("b"), Incarnation(2)), host="h", port=1,
                     host_id="here")  # fmt: skip
    assert ways.to(other) is Way.MEMORY


def test_processes_of_one_user_on_one_machine_have_one_host_id() -> None:
    assert host_id() == host_id()
    assert host_id().endswith(f"/{os.getuid()}")


class Meeting:
    """A target that opens a pair in a thread, and a test that plays its source."""

    def __init__(self, timeout_s: float = WAIT_S) -> None:
        self.hosted = HostedStore("127.0.0.1", timeout_s)
        self.store = RemotePairStore("127.0.0.1", self.hosted.port, "pair", WAIT_S)
        self._timeout_s = timeout_s
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._open)
        self._thread.start()

    def rendezvous(self, store: Any, rank: int) -> Rendezvous:
        return Rendezvous(
            store=store, rank=rank, timeout_s=self._timeout_s, slots=2, slot_bytes=4096, name="pair"
        )

    def ended(self) -> Any:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()
        self.hosted.close()
        return self.outcome

    def offer(self, shape: tuple[int, int], descriptor: int) -> None:
        """As a source does, but with what the test gives."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.settimeout(WAIT_S)
            name = f"splitweave-kv-test-{os.getpid()}"
            listener.bind(f"\0{name}")
            listener.listen(1)
            self.store.torch_store.set(KEY, name)
            with listener.accept()[0] as bell:
                socket.send_fds(bell, [SHAPE.pack(*shape)], [descriptor])
                self.ended()
        self.store.forget()

    def _open(self) -> None:
        near = self.hosted.pair_store("pair")
        try:
            self.outcome = MemoryBackend().open(self.rendezvous(near, 1))
        except PairError as error:
            self.outcome = error


def memory_of(size: int, seals: int) -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
BAD_OFFERS: dict[str, tuple[tuple[int, int], Callable[[], int]]] = {
    "may shrink": ((2, 4096), lambda: memory_of(8192, fcntl.F_SEAL_GROW)),
    "too small": ((2, 4096), lambda: memory_of(4096, SEALED)),
    "other slots than the header says": ((1, 8192), lambda: memory_of(8192, SEALED)),
    "no slots": ((0, 4096), lambda: memory_of(0, SEALED)),
    "no memory": ((2, 4096), lambda: os.open("/dev/null", os.O_RDWR)),
}


@pytest.mark.parametrize("name", BAD_OFFERS)
def test_memory_that_is_not_what_was_announced_is_refused_before_it_is_mapped(name: str) -> None:
    shape, make = BAD_OFFERS[name]
    meeting, descriptor = Meeting(), make()
    meeting.offer(shape, descriptor)
    os.close(descriptor)
    assert isinstance(meeting.outcome, PairError)


def test_a_source_that_never_comes_is_given_up_on_in_time() -> None:
    meeting = Meeting(timeout_s=0.5)
    assert isinstance(meeting.ended(), PairError)
    meeting.store.forget()


def test_a_pair_wakes_who_waits_when_it_is_cancelled_and_says_no_from_then_on() -> None:
    meeting = Meeting()
    source = MemoryBackend().open(meeting.rendezvous(meeting.store, 0))
    target = meeting.ended()
    pending = target.recv(target.place(0, 16), 0)
    threading.Timer(0.1, target.cancel).start()
    with pytest.raises(PairError):
        pending.wait(WAIT_S)
    with pytest.raises(PairError):
        source.send(source.place(0, 16), 0).wait(WAIT_S)
    for pair in (source, target):
        pair.close()
    with pytest.raises(PairError, match="closed"):
        source.place(1, 16)


def test_what_the_source_writes_is_what_the_target_reads_without_a_copy() -> None:
    meeting = Meeting()
    source = MemoryBackend().open(meeting.rendezvous(meeting.store, 0))
    target = meeting.ended()
    for number in range(5):  # more than there are slots
        place = source.place(number, 32)
        place[:] = number
        sent = source.send(place, number)
        arrived = target.place(number, 32)
        target.recv(arrived, number).wait(WAIT_S)
        assert torch.equal(arrived, torch.full((32,), number, dtype=torch.uint8))
        target.release(number)
        sent.wait(WAIT_S)
    for pair in (source, target):
        pair.close()


def maps(pid: int) -> int:
    return Path(f"/proc/{pid}/maps").read_text().count("splitweave-kv")


def names() -> dict[str, str]:
    """Of every worker on this machine, other tests' too: inode by name."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {words[-1]: words[-2] for words in lines if words[-1].startswith("@splitweave-kv")}


def names_of(pid: int) -> set[str]:
    held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return {name for name, inode in names().items() if f"socket:[{inode}]" in held}


def files() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("splitweave*")}


def test_killed_workers_leave_no_memory_and_no_name(mesh: Mesh) -> None:
    files_before = files()
    a, b = mesh.start("a"), mesh.start("b")
    a.send(b, "x", 3 * MIB)
    assert b.landed_equal("x", 3 * MIB)
    assert a.header("x").way is mesh.way
    assert (maps(a.peer.pid), maps(b.peer.pid)) == ((1, 1) if mesh.way is Way.MEMORY else (0, 0))
    ours = names_of(a.peer.pid) | names_of(b.peer.pid)
    assert bool(ours) == (mesh.way is Way.MEMORY)
    a.peer.signal(signal.SIGKILL)
    b.peer.order("cut", a.key.worker_id)  # as a worker does when it hears of the death
    # The main thread and the store's.
    assert b.comes_to(lambda census: census[0] == 2 and maps(b.peer.pid) == 0)
    assert b.comes_to(lambda _: not ours & set(names()))
    assert files() <= files_before
