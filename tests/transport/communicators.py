"""Stand-ins at the NCCL backend's lowest seam: two in memory, one over gloo.

They keep NCCL's manners: a launch returns before it is through, no peer's death
is reported, and an operation that was aborted looks completed.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitweave.workers.live.transport.backend import PairError, Rendezvous
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.nccl_comm import Verb
from torch import Tensor

WAIT_S = 60.0


@dataclass
class Launch:
    """`through` says when; an abort makes it look completed."""

    verb: Verb
    chunks: list[Tensor]
    thread: str
    through: threading.Event = field(default_factory=threading.Event)

    def is_completed(self) -> bool:
        return self.through.is_set()


@dataclass
class Scripted:
    """A communicator whose calls do what a test says."""

    name: str
    launches: list[Launch] = field(default_factory=list)
    launching: threading.Event = field(default_factory=threading.Event)
    launch_may_go: threading.Event = field(default_factory=threading.Event)
    abort_may_go: threading.Event = field(default_factory=threading.Event)
    device_left: bool = True  # whether an abort ends what the device does
    aborted: threading.Event = field(default_factory=threading.Event)
    error: str = ""

    def __post_init__(self) -> None:
        self.launch_may_go.set()
        self.abort_may_go.set()

    def launch(self, verb: Verb, chunks: Sequence[Tensor], tags: Sequence[int]) -> Launch:
        self.launching.set()
        assert self.launch_may_go.wait(WAIT_S)
        if self.error:
            raise RuntimeError(self.error)
        launch = Launch(verb, list(chunks), threading.current_thread().name)
        self.launches.append(launch)
        return launch

    def abort(self) -> None:
        assert self.abort_may_go.wait(WAIT_S)
        self.launch_may_go.set()
        if self.device_left:
            for launch in self.launches:
                launch.through.set()
        self.aborted.set()


class ScriptedCommunicators:
    """Opens one per pair; `open_may_go` holds them up."""

    def __init__(self, prepare: Callable[[Scripted], None] = lambda _: None) -> None:
        self.opened: list[Scripted] = []
        self.open_may_go = threading.Event()
        self.open_may_go.set()
        self.error = ""
        self._prepare = prepare

    def open(self, rendezvous: Rendezvous) -> Scripted:
        assert self.open_may_go.wait(WAIT_S)
        if self.error:
            raise PairError(self.error)
        self.opened.append(Scripted(rendezvous.name))
        self._prepare(self.opened[-1])
        return self.opened[-1]

    @property
    def alive(self) -> int:
        return sum(1 for each in self.opened if not each.aborted.is_set())


class GlooCommunicators:
    """Real bytes between real process groups."""

    def __init__(self) -> None:
        self._gloo = GlooBackend("127.0.0.1")
        self.opened: list[GlooCommunicator] = []
        self.most = 0  # that were ever alive at once

    def open(self, rendezvous: Rendezvous) -> "GlooCommunicator":
        self.opened.append(GlooCommunicator(self._gloo.open(rendezvous)))
        self.most = max(self.most, self.alive)
        return self.opened[-1]

    @property
    def alive(self) -> int:
        return sum(1 for each in self.opened if not each.aborted.is_set())


class GlooCommunicator:
    """A thread per launch waits where NCCL's stream would."""

    def __init__(self, pair: Any) -> None:
        self._pair = pair
        self.groups: list[int] = []
        self.threads: set[str] = set()
        self.aborted = threading.Event()

    def launch(self, verb: Verb, chunks: Sequence[Tensor], tags: Sequence[int]) -> Launch:
        post = getattr(self._pair, verb)
        works = [post(chunk, tag) for chunk, tag in zip(chunks, tags, strict=True)]
        launch = Launch(verb, list(chunks), threading.current_thread().name)
        self.groups.append(len(works))
        self.threads.add(launch.thread)
        threading.Thread(target=self._wait, args=(works, launch), daemon=True).start()
        return launch

    def abort(self) -> None:
        self._pair.cancel()
        self.aborted.set()

    def _wait(self, works: list[Any], launch: Launch) -> None:
        try:
            for work in works:
                work.wait(WAIT_S)
        except PairError:
            self.aborted.wait(WAIT_S)  # the death of a peer is not reported
        launch.through.set()
