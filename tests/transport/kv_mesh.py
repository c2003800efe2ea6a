"""Real worker processes and the control RPC between them, under a test's hand.

The test process carries the headers from peer to peer, so a test can hold,
drop, double, swap or forge them. Everything is awaited with a bound.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kv_peer import digest, payload
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import (
    CopyResult,
    Endpoint,
    ParcelHeader,
    TransportLimits,
    Way,
)

MIB = 1 << 20
Census = tuple[int, int, int]  # Python threads, all threads, file descriptors
WAIT_S = 100.0
START_S = 300.0  # a process imports torch, on a machine that others use too
PEER = Path(__file__).with_name("kv_peer.py")
# On a busy machine too: who is not meant to give up does not.
LIMITS = TransportLimits(open_timeout_s=60.0, copy_timeout_s=60.0, idle_timeout_s=600.0)


class PeerProcess:
    """One process, its inbox read by a thread of ours: what it says goes to `on_<word>` too."""

    def __init__(self, script: Path = PEER) -> None:
        self.pipe, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(script), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
        )
        theirs.close()
        self.changed = threading.Condition()
        self.said: deque[tuple[Any, ...]] = deque()
        self.on_header: Callable[[Endpoint, ParcelHeader], None] = lambda target, header: None
        self.pid = self.process.pid
        threading.Thread(target=self._read, args=(self.pipe,), daemon=True).start()

    def order(self, *words: Any) -> None:
        self.pipe.send(words)

    def wait(self, wanted: Callable[[tuple[Any, ...]], bool], timeout_s: float = WAIT_S) -> Any:
        """Take the first thing said that is wanted."""

        def find() -> tuple[Any, ...] | None:
            return next(filter(wanted, self.said), None)

        with self.changed:
            found = self.changed.wait_for(find, timeout_s)
            assert found is not None, f"nothing in {timeout_s} s, but {list(self.said)}"
            self.said.remove(found)
            return found

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.process.wait(WAIT_S)  # else it still counts as living for a moment

    def end(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)
        self.pipe.close()

    def _read(self, pipe: Connection) -> None:
        while True:
            try:
                words = pipe.recv()
            except (EOFError, OSError):
                return
            hear = getattr(self, f"on_{words[0]}", None)
            if hear is not None:
                hear(*words[1:])
            with self.changed:
                self.said.append(words)
                self.changed.notify_all()


class Worker:
    """One life of a worker, in a peer process."""

    def __init__(
        self, peer: PeerProcess, key: WorkerKey, limits: TransportLimits, way: Way
    ) -> None:
        self.peer = peer
        self.key = key
        peer.said.clear()
        peer.order("open", key, limits, way)
        self.endpoint: Endpoint = peer.wait(lambda words: words[0] == "opened")[1]

    def send(self, target: "Worker", copy_id: str, size_bytes: int = 1000, seed: int = 0) -> None:
        copy = Copy(
            copy_id=copy_id,
            move_id=MoveId("move"),
            lease=1,
            target=target.key,
            first_layer=0,
            last_layer=1,
            source_blocks=(),
            target_blocks=(),
        )
        self.peer.order("send", target.endpoint, copy, seed, size_bytes)

    def result(self, side: str, copy_id: str, timeout_s: float = WAIT_S) -> CopyResult:
        result = self._ended(side, copy_id, timeout_s)[1]
        assert isinstance(result, CopyResult)
        return result

    def sent(self, copy_id: str, timeout_s: float = WAIT_S) -> CopyResult:
        return self.result("sent", copy_id, timeout_s)

    def landed(self, copy_id: str, timeout_s: float = WAIT_S) -> CopyResult:
        return self.result("landed", copy_id, timeout_s)

    def landed_equal(self, copy_id: str, size_bytes: int = 1000, seed: int = 0) -> bool:
        _, result, *digests = self._ended("landed", copy_id, WAIT_S)
        assert result.ok, result
        assert result.transfer_bytes == size_bytes
        return bool(digests == [digest(payload(seed, size_bytes))])

    def header(self, copy_id: str) -> ParcelHeader:
        """The header of the parcel that the copy is in."""
        header = self.peer.wait(lambda words: words[0] == "header" and copy_id in ids(words[2]))[2]
        assert isinstance(header, ParcelHeader)
        return header

    def receive(self, header: ParcelHeader) -> None:
        self.peer.order("receive", header)

    def census(self) -> Census:
        """Python threads, all threads, file descriptors."""
        self.peer.order("census")
        return tuple(self.peer.wait(lambda words: words[0] == "census")[1])

    def settled(self, threads_max: int) -> Census:
        """The census, once so few Python threads are left and it has stood still for a while."""
        looks: list[Census] = []
        self.comes_to(lambda found: looks.append(found) or rests(looks, threads_max))
        return looks[-1]

    def comes_to(self, wanted: Callable[[Census], bool]) -> bool:
        """Once the census is as wanted: pairs that were closed take a moment to end."""
        last, deadline = self.census(), time.monotonic() + WAIT_S
        while not wanted(last):
            assert time.monotonic() < deadline, f"still {last} after {WAIT_S} s"
            time.sleep(0.1)
            last = self.census()
        return True

    def close(self) -> None:
        self.peer.order("close")
        self.peer.wait(lambda words: words[0] == "closed")

    def ends(self, side: str) -> list[str]:
        """Copies whose end was said and not yet taken, duplicates too."""
        return [words[1].copy_id for words in self.peer.said if words[0] == side]

    def _ended(self, side: str, copy_id: str, timeout_s: float) -> Any:
        return self.peer.wait(
            lambda words: words[0] == side and words[1].copy_id == copy_id, timeout_s
        )


class Mesh:
    """Workers of one test, and the RPC that carries their headers at once.

    `rpc` may be replaced: it gets the target and a header, and does what it likes.
    """

    def __init__(self, idle: list[PeerProcess], way: Way = Way.NETWORK) -> None:
        self._idle = idle
        self.way = way
        self._workers: list[Worker] = []
        self.rpc: Callable[[Worker, ParcelHeader], None] = Worker.receive

    def start(
        self, worker_id: str, incarnation: int = 1, limits: TransportLimits = LIMITS
    ) -> Worker:
        peer = self._idle.pop() if self._idle else new_peer()
        peer.on_header = self._carry
        worker = Worker(
            peer, WorkerKey(WorkerId(worker_id), Incarnation(incarnation)), limits, self.way
        )
        self._workers.append(worker)
        return worker

    def reopen(self, worker: Worker, incarnation: int) -> Worker:
        """The next life of a closed worker, in the same process."""
        self._workers.remove(worker)
        key = replace(worker.key, incarnation=Incarnation(incarnation))
        self._workers.append(Worker(worker.peer, key, LIMITS, self.way))
        return self._workers[-1]

    def hold_headers(self) -> None:
        """From now on a test carries them itself."""
        self.rpc = lambda target, header: None

    def end(self) -> None:
        for worker in self._workers:
            if worker.peer.process.poll() is None:
                worker.close()
                self._idle.append(worker.peer)
            else:
                worker.peer.end()

    def _carry(self, target: Endpoint, header: ParcelHeader) -> None:
        for worker in self._workers:
            if worker.key == target.worker and worker.peer.process.poll() is None:
                self.rpc(worker, header)


def new_peer() -> PeerProcess:
    peer = PeerProcess()
    peer.wait(lambda words: words[0] == "ready", START_S)
    return peer


def rests(looks: list[Census], threads_max: int) -> bool:
    """The last five looks saw the same."""
    return looks[-1][0] <= threads_max and len(looks) >= 5 and len(set(looks[-5:])) == 1


def ids(header: ParcelHeader) -> list[str]:
    return [copy.copy_id for copy in header.copies]
