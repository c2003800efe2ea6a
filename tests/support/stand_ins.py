"""What stands in for Ray when a shell is tested without it: mail, handles, actor classes."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from splitweave.proto.ids import GatewayId, WorkerKey


class Called:
    """An actor's method: keeps what it was called with; its answer is a settled future."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer
        self.calls: list[tuple[Any, ...]] = []

    def remote(self, *args: Any) -> "Called":
        self.calls.append(args)
        return self

    def future(self) -> "Future[Any]":
        settled: Future[Any] = Future()
        try:
            settled.set_result(self.value())
        except Exception as error:  # as Ray hands over whatever was raised
            settled.set_exception(error)
        return settled

    def value(self) -> Any:
        return self._answer()


@dataclass
class Mailbox:
    """Stands in for `Post`: keeps mail, and hands out the handles it was given."""

    mail: list[tuple[str, Any]] = field(default_factory=list)
    handles: dict[str, Any] = field(default_factory=dict)
    on_mail: Callable[[str, Any], None] = lambda _to, _event: None

    def controller(self, event: Any) -> None:
        self._put("controller", event)

    def worker(self, key: WorkerKey, event: Any) -> None:
        self._put(str(key.worker_id), event)

    def gateway(self, gateway_id: GatewayId, event: Any) -> None:
        self._put(str(gateway_id), event)

    def handle(self, name: str) -> Any:
        return self.handles.get(name)

    def to(self, party: str) -> list[Any]:
        return [event for name, event in self.mail if name == party]

    def _put(self, to: str, event: Any) -> None:
        self.mail.append((to, event))
        self.on_mail(to, event)


@dataclass
class ActorKind:
    """Stands in for a Ray actor class: `.options(…).remote(setup)` is kept in `made`."""

    handle: Callable[[dict[str, Any]], Any]
    made: list[tuple[dict[str, Any], Any]] = field(default_factory=list)
    _options: dict[str, Any] = field(default_factory=dict)

    def options(self, **options: Any) -> "ActorKind":
        return ActorKind(self.handle, self.made, options)

    def remote(self, setup: Any) -> Any:
        self.made.append((self._options, setup))
        return self.handle(self._options)
