"""One logical copy between two groups of ranks, as its parts end.

Each exchange of ranks is a part with bytes and a checksum of its own. The copy
has landed when every part has: fewer would publish blocks with missing heads,
so one failed part fails it at once. At the source it has failed only when every
part has ended: until then some rank may still write into the target's blocks.

Ends of parts that nobody waits for change nothing: doubles, and whatever comes
after the end of the whole copy.
"""

from dataclasses import dataclass, replace

from ...proto.move import Copy
from ...proto.worker_events import BlocksLanded, CopyFailed, CopySent
from .head_ranges import Exchange


class PartsFull(ValueError):
    """As many copies are open as there may be."""


def part_of(copy: Copy, exchange: Exchange) -> Copy:
    """The copy that one pair of ranks performs, under an id of its own."""
    return replace(copy, copy_id=f"{copy.copy_id}#{exchange.source_rank}-{exchange.target_rank}")


def exchange_of(part: Copy, plan: tuple[Exchange, ...]) -> Exchange | None:
    """The exchange that a part performs, by its id; None if the plan has no such."""
    ends = [f"#{each.source_rank}-{each.target_rank}" for each in plan]
    found = "#" + part.copy_id.rpartition("#")[2]
    return plan[ends.index(found)] if found in ends else None


@dataclass(slots=True, kw_only=True)
class OpenCopy:
    """A copy some of whose parts have not ended."""

    copy: Copy
    waiting: dict[str, Exchange]
    transfer_bytes: int = 0
    reason: str = ""

    def failed(self) -> CopyFailed:
        """Its end, for the first reason given."""
        return CopyFailed(copy_id=self.copy.copy_id, move_id=self.copy.move_id, reason=self.reason)


class OpenCopies:
    """Copies with the parts they wait for; at most `copies_max`."""

    def __init__(self, copies_max: int) -> None:
        self._copies_max = copies_max
        self._open: dict[str, OpenCopy] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, copy: Copy, plan: tuple[Exchange, ...]) -> tuple[Copy, ...]:
        """The parts of a copy, in the plan's order. Raises PartsFull."""
        assert copy.copy_id not in self._open, copy
        if len(self._open) >= self._copies_max:
            raise PartsFull(f"open copies reach copies_max ({self._copies_max})")
        parts = tuple(part_of(copy, exchange) for exchange in plan)
        waiting = {part.copy_id: exchange for part, exchange in zip(parts, plan, strict=True)}
        self._open[copy.copy_id] = OpenCopy(copy=copy, waiting=waiting)
        return parts

    def take(self, end: BlocksLanded | CopySent | CopyFailed) -> OpenCopy | None:
        """The copy whose part this ends, counted; None if no copy waits for it."""
        found = self._open.get(end.copy_id.rpartition("#")[0])
        if found is None or found.waiting.pop(end.copy_id, None) is None:
            return None
        if isinstance(end, CopyFailed):
            found.reason = found.reason or end.reason
        else:
            found.transfer_bytes += end.transfer_bytes
        return found

    def close(self, found: OpenCopy) -> None:
        """It has ended."""
        del self._open[found.copy.copy_id]

    def waiting_for(self, rank: int, *, at: str) -> list[CopyFailed]:
        """A failed end for each part that waits for a rank, `at` naming the exchange's side."""
        return [
            CopyFailed(copy_id=part, move_id=found.copy.move_id, reason=f"rank {rank} is lost")
            for found in self._open.values()
            for part, exchange in found.waiting.items()
            if getattr(exchange, at) == rank
        ]


class LandingParts:
    """The target group's side."""

    def __init__(self, copies_max: int) -> None:
        self._copies = OpenCopies(copies_max)

    def __len__(self) -> int:
        return len(self._copies)

    def open(self, copy: Copy, plan: tuple[Exchange, ...]) -> tuple[Copy, ...]:
        """Wait for a copy's parts. Raises PartsFull."""
        return self._copies.open(copy, plan)

    def ended(self, end: BlocksLanded | CopyFailed) -> BlocksLanded | CopyFailed | None:
        """A part's end; the copy's, if this was the last to land or the first to fail."""
        found = self._copies.take(end)
        if found is None or (found.waiting and not found.reason):
            return None
        self._copies.close(found)
        if found.reason:
            return found.failed()
        return BlocksLanded(
            copy_id=found.copy.copy_id,
            move_id=found.copy.move_id,
            transfer_bytes=found.transfer_bytes,
        )

    def rank_lost(self, rank: int) -> list[BlocksLanded | CopyFailed]:
        """A target rank is gone: what it was to receive fails."""
        ends = [self.ended(part) for part in self._copies.waiting_for(rank, at="target_rank")]
        return [end for end in ends if end is not None]


class SendingParts:
    """The source group's side."""

    def __init__(self, copies_max: int) -> None:
        self._copies = OpenCopies(copies_max)

    def __len__(self) -> int:
        return len(self._copies)

    def open(self, copy: Copy, plan: tuple[Exchange, ...]) -> tuple[Copy, ...]:
        """Start a copy's parts. Raises PartsFull."""
        return self._copies.open(copy, plan)

    def ended(self, end: CopySent | CopyFailed) -> CopySent | CopyFailed | None:
        """A part's end; the copy's, if no other part is under way."""
        found = self._copies.take(end)
        if found is None or found.waiting:
            return None
        self._copies.close(found)
        if found.reason:
            return found.failed()
        return CopySent(
            copy_id=found.copy.copy_id,
            move_id=found.copy.move_id,
            transfer_bytes=found.transfer_bytes,
        )

    def rank_lost(self, rank: int) -> list[CopySent | CopyFailed]:
        """A source rank is gone: what it was to send fails."""
        ends = [self.ended(part) for part in self._copies.waiting_for(rank, at="source_rank")]
        return [end for end in ends if end is not None]
