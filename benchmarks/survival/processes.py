"""Which process is whose: the actors of one embedded Ray, and what each of them uses."""

import contextlib
import re
from dataclasses import dataclass

import psutil
from splitweave.client.status import ClusterStatus

ACTORS = {"ControllerActor": "controller", "GatewayActor": "gateway", "WorkerActor": "worker"}
# Ray's own, watched for information.
RAYS = ("raylet", "gcs_server", "dashboard_agent", "runtime_env_agent", "log_monitor", "dashboard")
RAY_TITLE = re.compile(r"ray::(\w+)")
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process. `role` is what its curve belongs to, `ours` false for Ray's own."""

    pid: int
    role: str
    name: str
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a process used at one moment."""

    pid: int
    role: str
    name: str
    ours: bool
    age_s: float
    rss_mib: float
    uss_mib: float
    descriptors: int
    threads: int


class Family:
    """The driver and everything below it. Worker ids are learned from the cluster's status."""

    def __init__(self, root: psutil.Process | None = None) -> None:
        self._root = root or psutil.Process()
        self._worker_ids: dict[int, str] = {}

    def learn(self, status: ClusterStatus) -> None:
        """Which pid is which worker; only the newest lives are remembered."""
        self._worker_ids = {worker.pid: worker.worker_id for worker in status.workers}

    def members(self) -> list[Member]:
        """Every process of the cluster that lives now, by pid."""
        found = [self._member(process) for process in self._root.children(recursive=True)]
        driver = Member(pid=self._root.pid, role="driver", name="driver", ours=True)
        return [driver, *sorted((m for m in found if m is not None), key=lambda m: m.pid)]

    def of_role(self, role: str) -> list[Member]:
        return [member for member in self.members() if member.role == role]

    def pids(self) -> frozenset[int]:
        return frozenset(process.pid for process in self._root.children(recursive=True))

    def samples(self, now_s: float) -> list[Sample]:
        """One of each; `now_s` is Unix time. Who dies meanwhile is left out."""
        found = []
        for member in self.members():
            with contextlib.suppress(psutil.Error, OSError):
                found.append(_sample(member, now_s))
        return found

    def _member(self, process: psutil.Process) -> Member | None:
        try:
            line = " ".join(process.cmdline())
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        title = RAY_TITLE.match(line)
        kind = ACTORS.get(title[1]) if title else None
        if kind == "worker":
            worker_id = self._worker_ids.get(process.pid)
            if worker_id is None:
                return Member(pid=process.pid, role="starting", name="starting", ours=True)
            return Member(
                pid=process.pid, role=worker_id.rsplit("-", 1)[0], name=worker_id, ours=True
            )
        if kind is not None:
            return Member(pid=process.pid, role=kind, name=kind, ours=True)
        rays = next((name for name in RAYS if name in line), "other")
        return Member(pid=process.pid, role=f"ray {rays}", name=rays, ours=False)


def _sample(member: Member, now_s: float) -> Sample:
    process = psutil.Process(member.pid)
    memory = process.memory_full_info()
    return Sample(
        pid=member.pid,
        role=member.role,
        name=member.name,
        ours=member.ours,
        age_s=round(now_s - process.create_time(), 1),
        rss_mib=round(memory.rss / MIB, 2),
        uss_mib=round(memory.uss / MIB, 2),
        descriptors=process.num_fds(),
        threads=process.num_threads(),
    )
