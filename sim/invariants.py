"""What must hold after every step.

The cores' own `check()` sees to their tables; `clients.py` to the streams;
`inbound.py` to blocks under copies; `leftovers.py` to what is there when all is
quiet. Here: each step's outside appearance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..proto.cluster_events import MoveEnded, WorkerRegistered, WorkerViewed
from ..proto.effects import RunIteration, ToController, ToWorker
from ..proto.move import MoveReport, Stage
from ..proto.views import WorkerView
from ..proto.worker_events import FetchGranted, LeaseOpened
from .errors import InvariantBroken
from .inbound import Inbound


@dataclass(frozen=True, slots=True)
class Watched:
    """A core under watch; `inbound` if it is a worker's."""

    name: str
    core: Any
    inbound: Inbound | None = None


def check_step(watched: Watched, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
    """Everything that can be said of one step of one core. Raises InvariantBroken."""
    name, inbound = watched.name, watched.inbound
    try:
        watched.core.check()
    except AssertionError as error:
        raise InvariantBroken(f"{name} at {now_ns} after {event!r}: {error}") from error
    if sum(isinstance(effect, RunIteration) for effect in effects) > 1:
        raise InvariantBroken(f"{name} at {now_ns}: two iterations at once after {event!r}")
    for effect in effects:
        told = effect.event if isinstance(effect, ToWorker) else None
        if isinstance(told, LeaseOpened | FetchGranted) and inbound:
            inbound.check_lease(told)
        if isinstance(effect, ToController) and isinstance(
            effect.event, WorkerRegistered | WorkerViewed
        ):
            check_view(effect.event.view)
        if isinstance(effect, ToController) and isinstance(effect.event, MoveEnded):
            check_report(effect.event.report, watched.core.info.block_bytes)


def check_report(report: MoveReport, block_bytes: int) -> None:
    """The account of a move adds up. Raises InvariantBroken."""
    ordered = report.blocks * block_bytes
    whole = report.transfer_bytes == ordered
    if not whole and (report.outcome is Stage.COMMITTED or report.transfer_bytes > ordered):
        raise InvariantBroken(
            f"move {report.move_id} {report.outcome}: {report.transfer_bytes} bytes sent, "
            f"{report.blocks} blocks of {block_bytes} ordered"
        )
    if report.stages_ns != report.wall_ns:
        raise InvariantBroken(
            f"move {report.move_id}: stages take {report.stages_ns} ns, it {report.wall_ns} ns"
        )
    if not 0 <= report.hidden_bytes <= report.transfer_bytes:
        raise InvariantBroken(f"move {report.move_id}: {report.hidden_bytes} bytes hidden")


def check_view(view: WorkerView) -> None:
    """Every block is in exactly one state. Raises InvariantBroken."""
    parts = (
        view.blocks_free,
        view.blocks_held,
        view.blocks_cached,
        view.blocks_leased,
        view.blocks_quarantined,
    )
    if sum(parts) != view.blocks_total or min(parts) < 0:
        raise InvariantBroken(
            f"worker {view.key}: free + held + cached + leased + quarantined = "
            f"{' + '.join(map(str, parts))}, total is {view.blocks_total}"
        )
