"""Peers in processes of their own, and the control RPC between them."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from settings import Settings
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import CopyResult, Endpoint, ParcelHeader

PEER = Path(__file__).with_name("peer.py")
WAIT_S = 60.0
# NCCL refuses two ranks of one host on one GPU; of two hosts they talk over sockets.
ONE_GPU = {
    "NCCL_SOCKET_IFNAME": "lo",
    "NCCL_P2P_DISABLE": "1",
    "NCCL_SHM_DISABLE": "1",
    "NCCL_IB_DISABLE": "1",
    "NCCL_CUMEM_ENABLE": "0",
}


class Process:
    """One life of a worker."""

    def __init__(
        self, fleet: "Fleet", name: str, incarnation: int = 1, pairs_max: int = 16
    ) -> None:
        self.key = WorkerKey(WorkerId(name), Incarnation(incarnation))
        self._pipe, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        host = {"NCCL_HOSTID": f"{name}-{incarnation}", "PAIRS_MAX": str(pairs_max)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PEER), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ONE_GPU, **host, "PYTHONPATH": path},
        )
        theirs.close()
        self._fleet = fleet
        self._changed = threading.Condition()
        self.said: deque[tuple[Any, ...]] = deque()
        threading.Thread(target=self._read, daemon=True).start()
        settings = fleet.settings
        self.wait("ready")
        self.order("open", self.key, settings.backend, settings.device, settings.copy_timeout_s)
        self.endpoint: Endpoint = self.wait("opened")[1]

    def order(self, *words: Any) -> None:
        self._pipe.send(words)

    def wait(self, word: str, copy_id: str = "", timeout_s: float = WAIT_S) -> Any:
        """The first thing said with that word, of that copy."""

        def find() -> Any:
            return next(
                (
                    words
                    for words in self.said
                    if words[0] == word and (not copy_id or words[1].copy_id == copy_id)
                ),
                None,
            )

        with self._changed:
            found = self._changed.wait_for(find, timeout_s)
            if found is None:
                raise TimeoutError(f"{self.key}: no {word} {copy_id} in {timeout_s:.0f} s")
            self.said.remove(found)
            return found

    def end(self, word: str, copy_id: str, timeout_s: float = WAIT_S) -> tuple[CopyResult, float]:
        """A copy's end on this side, and when (a clock all processes share)."""
        _, result, at, *_ = self.wait(word, copy_id, timeout_s)
        return result, at

    def stuck(self) -> list[str]:
        with self._changed:
            return [words[1] for words in self.said if words[0] == "stuck"]

    def used_bytes(self) -> int:
        self.order("used_bytes")
        return int(self.wait("used_bytes")[1])

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)

    def _read(self) -> None:
        while True:
            try:
                words = self._pipe.recv()
            except (EOFError, OSError):
                return
            if words[0] == "header":
                self._fleet.carry(*words[1:])
            with self._changed:
                self.said.append(words)
                self._changed.notify_all()


class Fleet:
    """The processes of one section; all are killed at its end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.with_digest = True
        self._processes: list[Process] = []
        self._copies = 0

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.process.poll() is None:
                process.kill()

    def start(self, *names: str, incarnation: int = 1, pairs_max: int = 16) -> list[Process]:
        """Side by side: importing torch is what takes long."""
        started: list[Process | BaseException] = [RuntimeError("not started")] * len(names)

        def start(place: int, name: str) -> None:
            try:
                started[place] = Process(self, name, incarnation, pairs_max)
            except (OSError, TimeoutError) as error:
                started[place] = error

        threads = [threading.Thread(target=start, args=each) for each in enumerate(names)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in started:
            if isinstance(each, BaseException):
                raise each
            self._processes.append(each)
        return [each for each in started if isinstance(each, Process)]

    def send(self, source: Process, target: Process, *how: Any, word: str = "send") -> str:
        """Order a copy; its id."""
        self._copies += 1
        copy = Copy(
            copy_id=f"c{self._copies}", move_id=MoveId("m"), lease=1, target=target.key,
            first_layer=0, last_layer=1, source_blocks=(), target_blocks=(),
        )  # fmt: skip
        source.order(word, target.endpoint, copy, *how)
        return copy.copy_id

    def carry(self, target: Endpoint, header: ParcelHeader) -> None:
        for process in self._processes:
            if process.key == target.worker and process.process.poll() is None:
                process.order("receive", header, self.with_digest)


STOP, CONTINUE = signal.SIGSTOP, signal.SIGCONT
