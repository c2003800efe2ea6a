"""One core, driven by hand: the test plays engine, peers, gateway and controller."""

from collections.abc import Iterable
from typing import Any, TypeVar

from parts import GATEWAY, LIMITS, info_of, key_of
from splitweave.proto.batch import Batch
from splitweave.proto.effects import (
    CopyBlocks,
    RunIteration,
    SetTimer,
    ToController,
    ToGateway,
    ToWorker,
)
from splitweave.proto.gateway_events import TokenChunk, TokensEmitted
from splitweave.proto.ids import MoveId, RequestId
from splitweave.proto.move import Copy, MoveKind, MoveOrder
from splitweave.proto.requests import Request, SampledToken
from splitweave.proto.timers import TimerFired, TimerKey
from splitweave.proto.views import HeldRequest, WorkerView
from splitweave.proto.worker_events import (
    CopySent,
    HandoverOffered,
    IterationDone,
    LeaseAsked,
    LeaseOpened,
    MoveOrdered,
    RequestAssigned,
)
from splitweave.workers.core import WorkerCore, WorkerLimits

T = TypeVar("T")
TOKEN = 7
SELF = key_of("a")
PEER = key_of("b")


def request_of(name: str, prompt: Iterable[int] | int, max_tokens: int = 8, **more: Any) -> Request:
    """`prompt` as an int: that many tokens which no other request has."""
    if isinstance(prompt, int):
        first = sum(name.encode()) * 1000
        prompt = range(first, first + prompt)
    return Request(
        request_id=RequestId(name),
        gateway_id=more.pop("gateway_id", GATEWAY),
        token_ids=tuple(prompt),
        max_tokens=max_tokens,
        **more,
    )


def handoff_of(name: str, move_id: str = "m1", kind: MoveKind = MoveKind.HANDOFF) -> MoveOrder:
    return MoveOrder(
        move_id=MoveId(move_id), kind=kind, request_id=RequestId(name), source=SELF, target=PEER
    )


class Solo:
    """A core that checks itself after each step; the last step's effects stay at hand."""

    def __init__(
        self,
        limits: WorkerLimits = LIMITS,
        blocks: int = 32,
        layers: int = 4,
        seed: int = 0,
        host_blocks: int = 0,
    ) -> None:
        info = info_of(SELF, blocks, host_blocks=host_blocks)
        self.core = WorkerCore(info, limits, layers, seed)
        self.now_ns = 0
        self.effects: list[Any] = []
        self.running: Batch | None = None
        self.iteration_copies: tuple[Copy, ...] = ()

    def step(self, event: Any, after_ns: int = 1000) -> list[Any]:
        self.now_ns += after_ns
        self.effects = self.core.step(event, self.now_ns)
        self.core.check()
        for effect in self.effects:
            if isinstance(effect, RunIteration):
                assert self.running is None, "two iterations in flight"
                self.running = effect.batch
                self.iteration_copies = effect.copies
        return self.effects

    # ---- asking

    def assign(
        self, name: str, prompt: Iterable[int] | int, max_tokens: int = 8, **more: Any
    ) -> Request:
        handoff = more.pop("handoff", None)
        request = request_of(name, prompt, max_tokens, **more)
        self.step(RequestAssigned(request=request, handoff=handoff))
        return request

    def migrate(self, name: str, move_id: str = "m1") -> MoveOrder:
        order = handoff_of(name, move_id, MoveKind.MIGRATION)
        self.step(MoveOrdered(order=order))
        return order

    def fire(self, kind: str, subject: str = "", after_ns: int = 1000) -> list[Any]:
        return self.step(TimerFired(TimerKey(kind, subject)), after_ns)

    # ---- the engine

    def iterate(self, times: int = 1, token: int = TOKEN) -> None:
        for _ in range(times):
            batch = self.running
            assert batch is not None, "nothing runs"
            self.running = None
            sampled = tuple(
                SampledToken(token_id=token) if chunk.draw is not None else None
                for chunk in batch.chunks
            )
            self.step(IterationDone(iteration=batch.iteration, sampled=sampled), 1_000_000)

    @property
    def batch(self) -> dict[str, int]:
        """Tokens per request of the iteration in flight."""
        if self.running is None:
            return {}
        return {str(chunk.request_id): len(chunk.token_ids) for chunk in self.running.chunks}

    def send_copies(self, copies: Iterable[Copy]) -> None:
        for copy in copies:
            self.step(
                CopySent(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=100), 1000
            )

    # ---- the peer

    def open_lease(
        self, blocks: int = 16, present: int = 0, move_id: str = "m1", lease: int = 1
    ) -> list[Any]:
        table = tuple(range(100, 100 + blocks))
        return self.step(
            LeaseOpened(
                move_id=MoveId(move_id), lease=lease, target=PEER, blocks=table, present=present
            )
        )

    def ask_lease(
        self,
        request: Request,
        blocks: int,
        hashes: tuple[int, ...] = (),
        move_id: str = "m1",
        source: Any = PEER,
    ) -> list[Any]:
        return self.step(
            LeaseAsked(
                move_id=MoveId(move_id),
                lease=1,
                kind=MoveKind.MIGRATION,
                source=source,
                request=request,
                hashes=hashes,
                blocks=blocks,
            )
        )

    def offer(
        self, emitted: int, computed: int, copies: tuple[str, ...] = (), move_id: str = "m1"
    ) -> list[Any]:
        return self.step(
            HandoverOffered(
                move_id=MoveId(move_id),
                lease=1,
                source=PEER,
                emitted=tuple(SampledToken(token_id=TOKEN) for _ in range(emitted)),
                computed=computed,
                copies=copies,
            )
        )

    # ---- looking

    def sent(self, cls: type[T]) -> list[T]:
        """Events of a class that the last step sent to anybody."""
        wrapped = [
            e.event for e in self.effects if isinstance(e, ToController | ToWorker | ToGateway)
        ]
        return [event for event in wrapped if isinstance(event, cls)]

    def ordered(self, cls: type[T]) -> list[T]:
        return [effect for effect in self.effects if isinstance(effect, cls)]

    @property
    def copies(self) -> list[Copy]:
        """Copies ordered outside an iteration by the last step."""
        return [effect.copy for effect in self.ordered(CopyBlocks)]

    @property
    def chunks(self) -> list[TokenChunk]:
        return [chunk for emitted in self.sent(TokensEmitted) for chunk in emitted.chunks]

    def timer(self, kind: str) -> int | None:
        found = [e.at_ns for e in self.effects if isinstance(e, SetTimer) and e.key.kind == kind]
        return found[-1] if found else None

    @property
    def view(self) -> WorkerView:
        return self.core.view(self.now_ns)

    def held(self, name: str) -> HeldRequest | None:
        return next((held for held in self.view.requests if held.request_id == name), None)

    def phase(self, name: str) -> str | None:
        held = self.held(name)
        return None if held is None else str(held.phase)

    def assert_no_block_used(self) -> None:
        view = self.view
        assert (view.blocks_held, view.blocks_leased, view.blocks_quarantined) == (0, 0, 0)
