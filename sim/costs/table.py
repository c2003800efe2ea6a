"""A measured table of whole iterations, interpolated.

Its CSV has a row per measured iteration shape:

    prefill_tokens, prefill_context   new tokens of prefill, and the KV before them
    decodes, decode_context           decoding requests, and the KV each of them reads
    time_us                           of the whole iteration, host time included

Rows without decodes make the prefill grid, rows without prefill the decode grid.
A mixed iteration is the prefill of all its rows, and the decodes' attention beside
it (what a decode costs above one with the least context), times one factor that is
fitted to the mixed rows; how well it fits is printed.
"""

from pathlib import Path
from statistics import median

from ...proto.batch import Batch
from .errors import CostError
from .grid import Beyond, Edge, Grid
from .rows import Rows, read_rows
from .work import Prefill, Work, work_of

COLUMNS = ("prefill_tokens", "prefill_context", "decodes", "decode_context", "time_us")
PROVENANCE = ("engine", "version", "kernel", "device", "model", "date")


class MeasuredTable:
    """Iteration times from one CSV file. `overhead_us` is added to every iteration."""

    def __init__(
        self, path: Path, beyond: Beyond = Beyond.EXTEND, overhead_us: float = 0.0
    ) -> None:
        rows = read_rows(path, COLUMNS)
        self._path = path
        self._provenance = _checked(path, rows.provenance)
        self._overhead_us = overhead_us
        self._edges = [Edge(f"{path.name}: {part}", beyond) for part in ("prefill", "decode")]
        self._prefill, self._decode = _grids(rows, self._edges)
        self._least_context = min((row[3] for row in rows.numbers if row[2]), default=0.0)
        self.mixed = 1.0
        mixed = [row for row in rows.numbers if row[0] and row[2]]
        if mixed:
            self.mixed = median(row[4] / self._mixed_us(_work(row)) for row in mixed)
        self.mixed_error = _error(self, mixed)
        for edge in self._edges:
            edge.lookups = edge.outside = 0
            edge.farthest = 1.0
            edge.axes.clear()

    def iteration_ns(self, batch: Batch) -> int:
        return self.work_ns(work_of(batch))

    def work_ns(self, work: Work) -> int:
        """Nanoseconds of one iteration of that work. Raises CostError if the table cannot say."""
        return round((self._us(work) + self._overhead_us) * 1_000)

    def describe(self) -> tuple[str, ...]:
        said = ", ".join(f"{key} {value}" for key, value in self._provenance.items())
        fit = "no mixed rows: mixed iterations are a sum"
        if self.mixed_error is not None:
            fit = f"mixed x {self.mixed:.3f}, median error of mixed rows {self.mixed_error:.1%}"
        holes = ", ".join(
            f"{grid.holes} of the {name} grid"
            for name, grid in (("prefill", self._prefill), ("decode", self._decode))
            if grid is not None
        )
        return (
            f"measured table {self._path.name}: {said}; host + {self._overhead_us:g} us",
            f"{self._path.name}: {fit}; points filled in: {holes}",
            *(edge.describe() for edge in self._edges),
        )

    def _us(self, work: Work) -> float:
        if not work.prefills:
            return self._at(self._decode, "decode", work.decodes, work.decode_context)
        if not work.decodes:
            return self._prefill_us(work)
        return self._mixed_us(work) * self.mixed

    def _mixed_us(self, work: Work) -> float:
        reading = self._at(self._decode, "decode", work.decodes, work.decode_context)
        least = self._at(self._decode, "decode", work.decodes, self._least_context)
        return self._prefill_us(work) + max(0.0, reading - least)

    def _prefill_us(self, work: Work) -> float:
        """All rows as one prompt, at the context that gives the same attention.

        Several short prompts attend less than one long one: context 0 is the least there is.
        """
        tokens = work.tokens
        own = work.prefill_tokens
        context = max(0.0, (work.pairs - own * (own + 1) / 2) / own)
        return self._at(self._prefill, "prefill", tokens, context)

    def _at(self, grid: Grid | None, name: str, *where: float) -> float:
        if grid is None:
            raise CostError(f"{self._path}: no rows for {name}, and an iteration needs them")
        return grid.at(*where)


def _grids(rows: Rows, edges: list[Edge]) -> tuple[Grid | None, Grid | None]:
    prefill = {row[:2]: row[4] for row in rows.numbers if row[0] and not row[2]}
    decode = {row[2:4]: row[4] for row in rows.numbers if row[2] and not row[0]}
    for row in rows.numbers:
        if not row[0] and not row[2]:
            raise CostError(f"{rows.path}: a row has neither prefill_tokens nor decodes")
    origin = str(rows.path)
    return (
        Grid(COLUMNS[:2], prefill, edges[0], origin=origin) if prefill else None,
        Grid(COLUMNS[2:4], decode, edges[1], origin=origin) if decode else None,
    )


def _work(row: tuple[float, ...]) -> Work:
    tokens, context, decodes, keys, _ = row
    return Work(
        prefills=(Prefill(int(tokens), int(context)),),
        decodes=int(decodes),
        decode_keys=int(decodes * keys),
    )


def _error(table: MeasuredTable, rows: list[tuple[float, ...]]) -> float | None:
    if not rows:
        return None
    return median(abs(table._us(_work(row)) / row[4] - 1) for row in rows)  # noqa: SLF001


def _checked(path: Path, provenance: dict[str, str]) -> dict[str, str]:
    missing = [key for key in PROVENANCE if key not in provenance]
    if missing:
        raise CostError(
            f"{path}: missing provenance {', '.join(missing)}: write `# {missing[0]} = …` on top "
            "(unknown is a fair answer)"
        )
    return {key: provenance[key] for key in PROVENANCE}
