"""Every request the controller knows, and who answers for it.

    (new) -> QUEUED -> ASSIGNED -> (forgotten: the gateway needs it no longer)
               ^          |
               |          v  no worker holds it any more
               +----- DISPLACED   (the gateway submits it again, attempt + 1)

A queued request is held whole. An assigned one is metadata: its gateway has
the prompt. A worker's view can bring in a request that nobody submitted here
(adoption after a restart), as ASSIGNED.
"""

from dataclasses import dataclass
from enum import StrEnum

from ...proto.ids import Epoch, GatewayId, RequestId, WorkerKey
from ...proto.requests import Request, RequestClass
from ...proto.views import HeldRequest, Phase

# Above any hop a request can reach: Epoch(a, HOP_MAX) is "attempt a and all before".
HOP_MAX = 2**31 - 1


class RequestState(StrEnum):
    """Where a request stands, for the controller."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    DISPLACED = "displaced"


# Every legal change. Anything else is a bug in the caller.
NEXT: dict[RequestState, frozenset[RequestState]] = {
    RequestState.QUEUED: frozenset({RequestState.ASSIGNED, RequestState.QUEUED}),
    RequestState.ASSIGNED: frozenset(
        {RequestState.ASSIGNED, RequestState.QUEUED, RequestState.DISPLACED}
    ),
    RequestState.DISPLACED: frozenset(
        {RequestState.ASSIGNED, RequestState.QUEUED, RequestState.DISPLACED}
    ),
}


@dataclass(slots=True, kw_only=True)
class TrackedRequest:
    """What the controller knows of one request. `arrived_ns` is when it came here first."""

    request_id: RequestId
    gateway_id: GatewayId
    epoch: Epoch
    prompt_tokens: int
    arrived_ns: int
    state: RequestState = RequestState.QUEUED
    request: Request | None = None  # while QUEUED
    since_ns: int = 0  # in this state, or with this owner
    owner: WorkerKey | None = None  # while ASSIGNED
    target: WorkerKey | None = None  # of the newest move: may have committed unheard
    confirmed: bool = False  # a view of the owner has listed it
    unlisted_ns: int | None = None  # since when the owner's views leave it out
    phase: Phase | None = None  # as of the owner's last view
    known_tokens: int = 0
    output_tokens: int = 0
    aborts: int = 0  # moves in a row that came to nothing
    next_move_ns: int = 0
    tells: int = 0  # times its gateway was told that it is displaced
    resumes: int = 0  # how often its client has come back
    resume_digest: int = 0
    request_class: RequestClass = RequestClass.STANDARD
    client_tokens: int = 0  # that its client had when it came back last
    orphaned_ns: int | None = None  # since when its gateway is dead and no other has it

    @property
    def movable(self) -> bool:
        """Whether a migration could start now: it decodes."""
        return self.state is RequestState.ASSIGNED and self.phase is Phase.DECODE


def through(attempt: int) -> Epoch:
    """The epoch that covers an attempt and all before it."""
    return Epoch(attempt, HOP_MAX)


class Requests:
    """The table, its index by owner, and the ids that ended lately."""

    def __init__(self, ended_max: int) -> None:
        self._ended_max = ended_max
        self._by_id: dict[RequestId, TrackedRequest] = {}
        self._by_owner: dict[WorkerKey, dict[RequestId, TrackedRequest]] = {}
        self._displaced: dict[RequestId, TrackedRequest] = {}
        self._ended: dict[RequestId, int] = {}  # to the last attempt, bounded, oldest first

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, request_id: RequestId) -> TrackedRequest | None:
        return self._by_id.get(request_id)

    def all(self) -> list[TrackedRequest]:
        """Oldest first."""
        return list(self._by_id.values())

    def owned_by(self, key: WorkerKey) -> list[TrackedRequest]:
        """A worker's requests, in the order it got them."""
        return list(self._by_owner.get(key, {}).values())

    def count_owned(self, key: WorkerKey) -> int:
        return len(self._by_owner.get(key, {}))

    def displaced(self) -> list[TrackedRequest]:
        """Requests that wait for their gateway."""
        return list(self._displaced.values())

    def ended_attempt(self, request_id: RequestId) -> int | None:
        """The last attempt of a request that ended lately."""
        return self._ended.get(request_id)

    def queue(self, request: Request, now_ns: int) -> TrackedRequest:
        """Hold a request, new or submitted again, until it is placed."""
        tracked = self._by_id.get(request.request_id)
        if tracked is None:
            tracked = TrackedRequest(
                request_id=request.request_id,
                gateway_id=request.gateway_id,
                epoch=request.epoch,
                prompt_tokens=request.prompt_tokens,
                arrived_ns=now_ns,
                resume_digest=request.resume_digest,
                request_class=request.request_class,
            )
            self._by_id[request.request_id] = tracked
            self._ended.pop(request.request_id, None)
        self._enter(tracked, RequestState.QUEUED, now_ns)
        tracked.epoch = request.epoch
        tracked.request = request
        self.listen(tracked, request)
        tracked.known_tokens, tracked.output_tokens = request.known_tokens, len(request.emitted)
        return tracked

    def assign(self, tracked: TrackedRequest, owner: WorkerKey, now_ns: int) -> None:
        """`owner` answers for it from now on."""
        self._enter(tracked, RequestState.ASSIGNED, now_ns)
        tracked.owner = owner
        self._by_owner.setdefault(owner, {})[tracked.request_id] = tracked

    def adopt(self, held: HeldRequest, owner: WorkerKey, now_ns: int) -> TrackedRequest:
        """A worker runs it: it is the owner, whatever was known before."""
        tracked = self._by_id.get(held.request_id)
        if tracked is None:
            tracked = TrackedRequest(
                request_id=held.request_id,
                gateway_id=held.gateway_id,
                epoch=held.epoch,
                prompt_tokens=held.known_tokens - held.output_tokens,
                arrived_ns=now_ns,
                resume_digest=held.resume_digest,
            )
            self._by_id[held.request_id] = tracked
        self.assign(tracked, owner, now_ns)
        tracked.epoch = held.epoch
        return tracked

    def displace(self, tracked: TrackedRequest, epoch: Epoch, now_ns: int) -> None:
        """No worker holds it; its gateway must submit it again above `epoch`."""
        target = tracked.target
        self._enter(tracked, RequestState.DISPLACED, now_ns)
        tracked.epoch, tracked.target = epoch, target
        self._displaced[tracked.request_id] = tracked

    def forget(self, tracked: TrackedRequest) -> None:
        """It has ended."""
        self._leave(tracked)
        del self._by_id[tracked.request_id]
        self.note_ended(tracked.request_id, tracked.epoch.attempt)

    def note_ended(self, request_id: RequestId, attempt: int) -> None:
        """Remember that the request has ended, whether it was known or not."""
        self._ended.pop(request_id, None)
        self._ended[request_id] = attempt
        if len(self._ended) > self._ended_max:
            del self._ended[next(iter(self._ended))]

    def listen(self, tracked: TrackedRequest, request: Request) -> None:
        """Its tokens go to the gateway that submits it."""
        tracked.gateway_id, tracked.resumes = request.gateway_id, request.resumes
        tracked.client_tokens, tracked.orphaned_ns = len(request.emitted), None

    def check(self) -> None:
        """Programmer's errors only: the indexes say what the requests say."""
        for tracked in self._by_id.values():
            state, name = tracked.state, tracked.request_id
            assert (tracked.request is not None) == (state is RequestState.QUEUED), name
            assert (tracked.owner is not None) == (state is RequestState.ASSIGNED), name
            assert (name in self._displaced) == (state is RequestState.DISPLACED), name
            if tracked.owner is not None:
                assert name in self._by_owner[tracked.owner], name
        assert all(self._by_owner.values()), "an owner without requests"
        owned = sum(len(held) for held in self._by_owner.values())
        assert owned == sum(t.owner is not None for t in self._by_id.values()), owned
        assert len(self._ended) <= self._ended_max

    def _enter(self, tracked: TrackedRequest, state: RequestState, now_ns: int) -> None:
        assert state in NEXT[tracked.state], f"illegal change {tracked.state} -> {state}"
        self._leave(tracked)
        tracked.state, tracked.since_ns = state, now_ns
        tracked.request = tracked.phase = tracked.target = tracked.unlisted_ns = None
        tracked.confirmed, tracked.tells = False, 0

    def _leave(self, tracked: TrackedRequest) -> None:
        self._displaced.pop(tracked.request_id, None)
        if tracked.owner is not None:
            owned = self._by_owner[tracked.owner]
            del owned[tracked.request_id]
            if not owned:
                del self._by_owner[tracked.owner]
            tracked.owner = None
