"""Messages between parties: at most once each, unless a fault doubles one.

Without faults a message takes `latency_ns` plus a seeded exponential jitter, so
two messages may overtake each other as soon as there is jitter. A `Trouble`
loses, doubles or delays messages while it lasts; a cut party hears and says
nothing at all.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from .clock import Action, Scheduler

PAST_MAX = 256  # messages kept per party
PartyName = str  # "controller", or a gateway's or worker's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What happens to messages for a while. Probabilities in [0, 1].

    With `source` or `target` only to those from, or to, that party: with loss 1
    the one does not hear the other, who may hear it well. With `kinds` only to
    messages of these types.
    """

    loss: float
    duplicate: float
    delay_ns_max: int
    source: PartyName | None = None
    target: PartyName | None = None
    kinds: tuple[str, ...] = ()

    def meets(self, source: PartyName, target: PartyName, kind: str) -> bool:
        """Whether such a message is troubled."""
        return (
            (self.source is None or self.source == source)
            and (self.target is None or self.target == target)
            and (not self.kinds or kind in self.kinds)
        )


class Network:
    """Delivers messages over a `Scheduler`."""

    def __init__(self, scheduler: Scheduler, latency_ns: int, jitter_ns: int, seed: int) -> None:
        self._scheduler = scheduler
        self._latency_ns = latency_ns
        self._jitter_ns = jitter_ns
        self._random = Random(f"network {seed}")
        self._troubles: list[Trouble] = []
        self._cut: dict[PartyName, int] = {}
        self._past: dict[PartyName, deque[tuple[Action, Any]]] | None = None
        self.catch: Callable[[Action, Any], bool] | None = None  # takes a letter out of the mail
        self.sent = 0
        self.lost = 0

    def send(self, source: PartyName, target: PartyName, deliver: Action, message: Any) -> None:
        """Deliver `message` by `deliver(message)`, once, later; or as the faults have it."""
        self.sent += 1
        if self.catch is not None and self.catch(deliver, message):
            return
        if self._past is not None:
            self._past.setdefault(target, deque(maxlen=PAST_MAX)).append((deliver, message))
        if self._troubles or self._cut:
            self._send_badly(source, target, deliver, message)
        elif self._jitter_ns:
            self._scheduler.at(self._arrival_ns(), deliver, message)
        else:
            self._scheduler.at(self._scheduler.now_ns + self._latency_ns, deliver, message)

    def trouble(self, trouble: Trouble) -> None:
        """Begin a trouble."""
        self._troubles.append(trouble)

    def ease(self, trouble: Trouble) -> None:
        """End a trouble; one that has ended is no error."""
        if trouble in self._troubles:
            self._troubles.remove(trouble)

    def remember(self) -> None:
        """From now on messages are kept for `past`."""
        self._past = {}

    def past(self, target: PartyName) -> list[tuple[Action, Any]]:
        """What was sent to `target` of late, and how it is delivered; oldest first."""
        return list((self._past or {}).get(target, ()))

    def cut(self, party: PartyName) -> None:
        """Nothing reaches or leaves `party` until as many `mend` as `cut`."""
        self._cut[party] = self._cut.get(party, 0) + 1

    def mend(self, party: PartyName) -> None:
        """Undo one `cut`; none is no error."""
        count = self._cut.pop(party, 0)
        if count > 1:
            self._cut[party] = count - 1

    def heal(self) -> None:
        """End every trouble and cut."""
        self._troubles.clear()
        self._cut.clear()

    def _arrival_ns(self) -> int:
        at_ns = self._scheduler.now_ns + self._latency_ns
        if self._jitter_ns:
            at_ns += int(self._random.expovariate(1.0) * self._jitter_ns)
        return at_ns

    def _send_badly(
        self, source: PartyName, target: PartyName, deliver: Action, message: Any
    ) -> None:
        if source in self._cut or target in self._cut:
            self.lost += 1
            return
        at_ns = [self._arrival_ns()]
        kind = _kind(message)
        for trouble in self._troubles:
            if not trouble.meets(source, target, kind):
                continue
            if self._random.random() < trouble.loss:
                self.lost += 1
                return
            at_ns[0] += int(self._random.random() * trouble.delay_ns_max)
            if self._random.random() < trouble.duplicate:
                at_ns.append(at_ns[0] + int(self._random.random() * trouble.delay_ns_max))
        for arrival_ns in at_ns:
            self._scheduler.at(arrival_ns, deliver, message)


def _kind(message: Any) -> str:
    return type(_event(message)).__name__


def _event(message: Any) -> Any:
    """What is told; some messages travel with their address."""
    return message[1] if isinstance(message, tuple) else message
