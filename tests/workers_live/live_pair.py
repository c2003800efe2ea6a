"""Real workers in this process: engine, core, transport and post, with Ray's names stood in for.

An actor handle here calls the worker at once, on the caller's thread, as Ray's
actor threads do. A test plays gateway and controller.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from splitweave.proto.gateway_events import TokensEmitted
from splitweave.proto.ids import GatewayId, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import MoveKind, MoveOrder, MoveReport
from splitweave.proto.requests import FinishReason, Request
from splitweave.proto.views import Role
from splitweave.proto.worker_events import StreamAcked
from splitweave.workers.core.limits import WorkerLimits
from splitweave.workers.live.setup import WorkerSetup
from splitweave.workers.live.worker import Worker

WAIT_S = 60.0
GATEWAY = GatewayId("g")
S = 1_000_000_000
LIMITS = WorkerLimits(
    batched_tokens_max=64,
    sequences_max=8,
    prefill_chunk_tokens=16,
    watermark_blocks=1,
    layer_group=2,
    copy_bytes_min=1,
    copy_blocks_max=4,
    # A machine that is slow is no reason to give a move up.
    lease_ns=60 * S,
    lease_asks_max=600,
    copy_ns=60 * S,
    fetch_ns=60 * S,
    handover_ns=60 * S,
)
PACE_S = 0.1


class Party:
    """Gateway or controller: keeps what it is told, and who waits is woken."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.events: list[Any] = []

    def deliver(self, events: Sequence[Any]) -> None:
        with self.changed:
            self.events.extend(events)
            self.changed.notify_all()

    def wait(self, done: Callable[[], Any]) -> Any:
        """Until `done` gives something; it is called with every new event."""
        with self.changed:
            found = self.changed.wait_for(done, WAIT_S)
            assert found, f"nothing in {WAIT_S} s; last: {self.events[-3:]}"
            return found

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Gateway(Party):
    """Streams by request, each token by its number, with who said it."""

    def tokens(self, name: str) -> dict[int, set[tuple[WorkerKey, int]]]:
        said: dict[int, set[tuple[WorkerKey, int]]] = {}
        for event in self.of(TokensEmitted):
            for chunk in event.chunks:
                if chunk.request_id == name:
                    for index, token in enumerate(chunk.tokens, chunk.first_index):
                        said.setdefault(index, set()).add((event.worker, token.token_id))
        return said

    def ended(self, name: str) -> FinishReason | None:
        for event in self.of(TokensEmitted):
            for chunk in event.chunks:
                if chunk.request_id == name and chunk.finish is not None:
                    return chunk.finish
        return None

    def stream(self, name: str) -> list[int]:
        """The whole stream, once it has ended; two tokens of one number must be equal."""
        self.wait(lambda: self.ended(name))
        said = self.tokens(name)
        assert sorted(said) == list(range(len(said))), "a gap in the stream"
        known = [{token for _, token in said[index]} for index in range(len(said))]
        assert all(len(tokens) == 1 for tokens in known), "two workers disagree"
        return [token for tokens in known for token in tokens]

    def workers(self, name: str) -> list[WorkerKey]:
        """Who emitted the request's tokens, in order of first tokens."""
        said = self.tokens(name)
        pairs = [who for index in sorted(said) for who, _ in sorted(said[index])]
        return list(dict.fromkeys(pairs))


class Remote:
    """A method of an actor: `.remote(...)` calls it, and its result is a finished future."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> Any:
        from concurrent.futures import Future

        result: Future[Any] = Future()
        result.set_result(self._method(*arguments))
        return SimpleNamespace(future=lambda: result)


class Paced:
    """An engine that waits before each iteration: what is to happen meanwhile surely can."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.at_full_speed = threading.Event()

    def run(self, batch: Any, on_layer: Callable[[int], None]) -> Any:
        self.at_full_speed.wait(PACE_S)
        return self._engine.run(batch, on_layer)


class Cluster:
    """Workers by name, a gateway and a controller, as `ray.get_actor` would find them."""

    def __init__(self, model: Path, monkeypatch: Any) -> None:
        self.gateway, self.controller = Gateway(), Party()
        self.actors: dict[str, Any] = {
            f"gateway/{GATEWAY}": self.gateway,
            "controller": self.controller,
        }
        self.workers: list[Worker] = []
        self._model = model
        monkeypatch.setattr(ray, "get_actor", self._get_actor)
        monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")

    def _get_actor(self, name: str, namespace: str | None = None) -> Any:
        if name not in self.actors:
            raise ValueError(f"no actor {name}")
        actor = self.actors[name]
        methods = ("deliver", "endpoint", "land")
        return SimpleNamespace(
            **{m: Remote(getattr(actor, m)) for m in methods if hasattr(actor, m)}
        )

    def start(self, name: str, limits: WorkerLimits = LIMITS, **changed: Any) -> Worker:
        known: dict[str, Any] = {
            "namespace": "here", "worker_id": WorkerId(name), "peers": (), "pool": "pool",
            "role": Role.MIXED, "limits": limits, "model_path": str(self._model),
            "context_tokens_max": 0, "device": "cpu", "threads": 1, "blocks": 64, "host_blocks": 0,
            "block_tokens": 8, "record": "",
        }  # fmt: skip
        worker = Worker(WorkerSetup(**{**known, **changed}))
        self.workers.append(worker)
        self.actors[f"worker/{name}"] = worker
        return worker

    def ready(self, worker: Worker) -> Worker:
        """Once it has registered."""
        key = worker._key
        self.controller.wait(lambda: [e for e in self.registered() if e.info.key == key])
        return worker

    def pace(self, worker: Worker) -> Paced:
        """Slow it down; it is idle."""
        paced = Paced(worker._engine_loop._engine)
        worker._engine_loop._engine = paced  # type: ignore[assignment]
        return paced

    def registered(self) -> list[Any]:
        from splitweave.proto.cluster_events import WorkerRegistered

        return self.controller.of(WorkerRegistered)

    def report(self, move_id: str) -> MoveReport:
        from splitweave.proto.cluster_events import MoveEnded

        def found() -> list[MoveReport]:
            ended = self.controller.of(MoveEnded)
            return [e.report for e in ended if e.report.move_id == move_id]

        report: MoveReport = self.controller.wait(found)[0]
        return report

    def ack(self, name: str) -> None:
        for worker in self.workers:
            worker.deliver(None, [StreamAcked(request_id=RequestId(name))])

    def close(self) -> None:
        """What a worker's process does by ending."""
        for worker in self.workers:
            worker._thread.result(_quieten(worker), WAIT_S)
            if worker._shell is not None:
                worker._engine_loop.stop(WAIT_S)
                worker._transport.close()
            worker._thread.call_soon(worker._thread.loop.stop)
            worker._thread._thread.join(WAIT_S)
            worker._thread.loop.close()


async def _quieten(worker: Worker) -> None:
    if worker._shell is not None:
        worker._shell.close()


def request(name: str, prompt: Sequence[int], max_tokens: int, **more: Any) -> Request:
    return Request(
        request_id=RequestId(name),
        gateway_id=GATEWAY,
        token_ids=tuple(prompt),
        max_tokens=max_tokens,
        **more,
    )


def move(name: str, kind: MoveKind, source: Worker, target: WorkerKey) -> MoveOrder:
    return MoveOrder(
        move_id=MoveId(f"move-{name}"),
        kind=kind,
        request_id=RequestId(name),
        source=source._key,
        target=target,
    )
