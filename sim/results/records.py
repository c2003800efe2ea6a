"""What is kept of every request that has ended: one row of plain columns.

A row costs about 200 bytes, so that a run of a million requests fits in memory
with room to spare; everything else about a request goes when it ends.
"""

from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...proto.effects import StreamAccount
from ...proto.ids import RequestId, WorkerId, WorkerKey
from ...proto.move import MoveKind, MoveReport, Stage
from ...proto.requests import RequestClass
from ..clock import NS_PER_S
from .gaps import Gaps

UNKNOWN = -1  # in a column, where a request never came that far
CLASSES = tuple(RequestClass)


class Ending(IntEnum):
    """How a request ended for its client. Who hung up is cancelled, whatever came of it."""

    COMPLETED = 0
    CANCELLED = 1
    REJECTED = 2
    FAILED = 3


class Row(NamedTuple):
    """One request. Times are points of virtual time in ns, UNKNOWN if never reached.

    placed: the controller sent it to a worker; began: the first iteration with a part
    of its prompt; computed: the end of the one that drew its first token; first, last:
    tokens at the client. `fetch_ns` was spent on getting a cached prefix from a peer.
    `transfer_ns` is the wall time of its committed handoffs and migrations, of which
    `exposed_ns` passed while neither side computed it. `source` and `target`: numbers
    of its first and last worker.
    """

    asked_ns: int
    placed_ns: int
    began_ns: int
    computed_ns: int
    first_ns: int
    last_ns: int
    fetch_ns: int
    transfer_ns: int
    exposed_ns: int
    transfer_bytes: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    cached_host_tokens: int
    cached_peer_tokens: int
    attempts: int
    migrations: int
    source: int
    target: int
    ending: int
    request_class: int

    @property
    def ttft_s(self) -> float:
        """Arrival to first token."""
        return (self.first_ns - self.asked_ns) / NS_PER_S

    @property
    def tpot_s(self) -> float:
        """(last − first) / (tokens − 1), of at least two tokens."""
        return (self.last_ns - self.first_ns) / (self.output_tokens - 1) / NS_PER_S

    @property
    def e2e_s(self) -> float:
        """Arrival to last token."""
        return (self.last_ns - self.asked_ns) / NS_PER_S


CODES = "q" * 10 + "i" * 5 + "h" * 4 + "b" * 2  # of the array of each column
DTYPES = {"q": np.int64, "i": np.int32, "h": np.int16, "b": np.int8}


class MoveTally:
    """All moves of one kind that gateways were told of."""

    def __init__(self) -> None:
        self.committed = 0
        self.aborted = 0
        self.transfer_bytes = 0
        self.hidden_bytes = 0
        self.downtimes_ns = array("q")

    def add(self, report: MoveReport) -> None:
        """A move has ended."""
        self.committed += report.outcome is Stage.COMMITTED
        self.aborted += report.outcome is Stage.ABORTED
        self.transfer_bytes += report.transfer_bytes
        self.hidden_bytes += report.hidden_bytes


class Records:
    """Every request that has ended, in order of its end, and all gaps and moves."""

    def __init__(self) -> None:
        self.ids: list[RequestId] = []
        self.gaps = Gaps()  # of completed requests
        self.moves = {kind: MoveTally() for kind in MoveKind}
        self.workers: dict[WorkerId, int] = {}  # numbers, in order of first use
        self._columns = [array(code) for code in CODES]

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, request_id: RequestId, row: Row) -> None:
        """A request has ended."""
        self.ids.append(request_id)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def number(self, workers: Iterable[WorkerKey]) -> tuple[int, int]:
        """The first and the last of `workers`, as numbers; UNKNOWN for none."""
        ids = [key.worker_id for key in workers]
        if not ids:
            return UNKNOWN, UNKNOWN
        known = self.workers
        return known.setdefault(ids[0], len(known)), known.setdefault(ids[-1], len(known))

    def column(self, name: str) -> NDArray[np.int64]:
        """One column as integers of 64 bits, in order of the requests' ends."""
        index = Row._fields.index(name)
        return np.array(self._columns[index], DTYPES[CODES[index]]).astype(np.int64)

    def by_arrival(self) -> Iterator[tuple[RequestId, Row]]:
        """Every request, in order of its arrival."""
        for index in np.argsort(self.column("asked_ns"), kind="stable"):
            yield self.ids[index], Row(*(column[index] for column in self._columns))

    def note_moves(self, account: StreamAccount) -> None:
        """The moves of one request. Downtimes belong to the committed ones, in order."""
        for report in account.moves:
            self.moves[report.kind].add(report)
        committed = [move for move in account.moves if move.outcome is Stage.COMMITTED]
        for report, downtime_ns in zip(committed, account.downtimes_ns, strict=False):
            self.moves[report.kind].downtimes_ns.append(downtime_ns)
