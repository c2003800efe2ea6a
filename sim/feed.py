"""Puts a workload's arrivals into a world, one at a time, in order of time.

Only the next arrival and the sessions under way are held. A session's next turn
comes its think time after the answer before it ended; a session whose client went
away, or whose request failed, says nothing more.
"""

from ..proto.ids import RequestId
from .clients import Stream
from .errors import TraceError
from .workloads.arrivals import Arrival, Workload
from .workloads.prompts import request_id_of
from .workloads.sessions import next_turn
from .world import World


class Feed:
    """What is still to come, and how much has come."""

    def __init__(self, world: World, workload: Workload) -> None:
        self._world = world
        self._arrivals = iter(workload)
        self._known = workload.requests
        self._sessions: dict[RequestId, tuple[int, Arrival]] = {}
        self._turns_due = 0
        self._drawn_all = False
        self.asked = 0
        self.last_ns = 0  # of what has come so far
        world.clients.answered = self._answered

    def start(self) -> None:
        """Put the first arrival on the schedule. Raises TraceError if there is none."""
        first = next(self._arrivals, None)
        if first is None:
            raise TraceError("the workload has no requests: nothing is left of it after its cuts")
        self._world.scheduler.at(first.at_ns, self._open, (0, first))

    @property
    def next_known(self) -> bool:
        """Whether another request will come, whatever the world does."""
        return not self._drawn_all or self._turns_due > 0

    @property
    def over(self) -> bool:
        """Whether nothing more can come: no answer is waited for that a session goes on from."""
        return not self.next_known and not self._sessions

    @property
    def total(self) -> int | None:
        """How many requests there are in all; None while that is not known."""
        return self.asked if self.over else self._known

    def _open(self, what: tuple[int, Arrival]) -> None:
        index, arrival = what
        self._arrive(index, arrival)
        following = next(self._arrivals, None)
        if following is None:
            self._drawn_all = True
        else:
            self._world.scheduler.at(following.at_ns, self._open, (index + 1, following))

    def _arrive(self, index: int, arrival: Arrival) -> None:
        self.asked += 1
        self.last_ns = self._world.scheduler.now_ns
        if arrival.turns:  # before it is asked: it may be refused at once
            self._sessions[request_id_of(index, arrival)] = (index, arrival)
        self._world.arrive(index, arrival)

    def _answered(self, stream: Stream, said: tuple[int, ...] | None) -> None:
        """A stream has ended; `said` is its prompt and answer, None if it is not whole."""
        session = self._sessions.pop(stream.request_id, None)
        if session is None or said is None:
            return
        index, asked = session
        following = next_turn(asked, said, self._world.scheduler.now_ns)
        if following is not None:
            self._turns_due += 1
            self._world.scheduler.at(following.at_ns, self._turn, (index, following))

    def _turn(self, what: tuple[int, Arrival]) -> None:
        self._turns_due -= 1
        self._arrive(*what)
