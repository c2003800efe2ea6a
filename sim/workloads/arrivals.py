"""What a workload is: dated arrivals, in order of time.

An `Arrival` names the content of its prompt by segments: two prompts that begin
with the same segments share that prefix. Prompts are built when they arrive, so
a long trace does not have to fit in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ...proto.requests import RequestClass


@dataclass(frozen=True, slots=True)
class Segment:
    """`tokens` tokens of the content that `name` stands for.

    A name that begins with `own/` is used by one request only.
    """

    name: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the client of a session says `think_ns` after it has the whole answer."""

    think_ns: int
    message: Segment
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request: when, what, and how long its answer is.

    The prompt is `history`, token by token, then `segments`. A session's arrival
    has more `turns` to come; `turn` counts those before it.
    """

    at_ns: int
    segments: tuple[Segment, ...]
    output_tokens: int
    history: tuple[int, ...] = ()
    turn: int = 0
    turns: tuple[Turn, ...] = ()
    request_class: RequestClass | None = None  # None: as the scenario's [classes] draw it
    within_ns: int | None = None  # the client wants the whole answer by then; None: it waits

    @property
    def prompt_tokens(self) -> int:
        return len(self.history) + sum(segment.tokens for segment in self.segments)


class Workload(Protocol):
    """Arrivals in order of time, the same ones each time it is read."""

    @property
    def requests(self) -> int | None:
        """How many there will be; None if that is not known beforehand."""

    def __iter__(self) -> Iterator[Arrival]: ...
