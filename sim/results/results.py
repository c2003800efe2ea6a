"""The typed results of one run: what files, reports and comparisons are made from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ... import __version__
from ...proto.ids import RequestId
from ..errors import SimulationError
from ..metrics import Metrics, measure
from ..run import Outcome
from ..scenario import Scenario
from .bill import Bill, bill_of
from .curves import Quantiles, Timeline, quantiles_of, timeline_of
from .definitions import DEFINITIONS
from .records import Row
from .stages import Band, Spans, bands_of, spans_of
from .table import Table
from .workers import PoolFigures, Samples, pools_of, samples_of

VERSION = 1  # of results.json


class ResultsError(SimulationError):
    """A file of results cannot be read, or lacks what is asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Prompt tokens found in prefix caches, and where; the rest was on the device."""

    hit_tokens: int
    host_tokens: int
    peer_tokens: int
    hit_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One run in figures. `definitions` says what each of them means.

    `outcome` is the run itself, None of results that were read from a file.
    """

    name: str
    version: int = VERSION
    splitweave: str = __version__
    scenario: dict[str, Any]
    metrics: Metrics
    spans: Spans
    bands: tuple[Band, ...]
    cache: Cache
    bill: Bill
    pools: tuple[PoolFigures, ...]
    quantiles: Quantiles
    timeline: Timeline | None
    samples: Samples | None
    provenance: tuple[str, ...]
    definitions: dict[str, str]
    outcome: Any = field(default=None, repr=False, compare=False)

    def requests(self) -> Iterator[tuple[RequestId, Row]]:
        """Every request in order of its arrival. Raises ResultsError if they are not here."""
        return self.run().world.clients.records.by_arrival()

    def run(self) -> Outcome:
        """The run itself. Raises ResultsError for results that were read from a file."""
        if not isinstance(self.outcome, Outcome):
            raise ResultsError(f"{self.name}: read from a file, which holds no requests")
        return self.outcome

    def as_json(self) -> str:
        """All but the run, as JSON text: the same text for the same run."""
        plain = _adapter().dump_python(self, mode="json", exclude={"outcome"})
        return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def results_of(outcome: Outcome, name: str = "scenario") -> Results:
    """The results of a finished run."""
    scenario, records = outcome.scenario, outcome.world.clients.records
    metrics, table = measure(outcome), Table(records)
    met = table.meets(scenario.slo.ttft_s, scenario.slo.tpot_s)
    sampler = outcome.sampler
    samples = None if sampler is None else samples_of(sampler, scenario)
    pools = () if sampler is None or samples is None else pools_of(sampler, samples, scenario)
    return Results(
        name=name,
        scenario=TypeAdapter(Scenario).dump_python(scenario, mode="json"),
        metrics=metrics,
        spans=spans_of(table),
        bands=bands_of(table),
        cache=_cache(table),
        bill=bill_of(scenario, metrics),
        pools=pools,
        quantiles=quantiles_of(table),
        timeline=timeline_of(table, met),
        samples=samples,
        provenance=tuple(outcome.world.described()),
        definitions=DEFINITIONS,
        outcome=outcome,
    )


def read_results(path: Path) -> Results:
    """The results at `path`: results.json, or a folder with one. Raises ResultsError."""
    file = path / "results.json" if path.is_dir() else path
    try:
        text = file.read_text()
    except OSError as error:
        raise ResultsError(
            f"{file}: {error.strerror}; `splitweave simulate SCENARIO --out FOLDER` writes it"
        ) from None
    try:
        found = json.loads(text)
        version = found.get("version") if isinstance(found, dict) else None
        if version != VERSION:
            raise ResultsError(f"{file}: version ({version}) is not {VERSION}: simulate it again")
        return _adapter().validate_json(text)
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise ResultsError(f"{file}: not the results of a simulation: {first}") from None


@cache
def _adapter() -> TypeAdapter[Results]:
    return TypeAdapter(Results)


def _cache(table: Table) -> Cache:
    hit_tokens = int(table.of("cached_tokens").sum())
    asked = int(table.of("prompt_tokens").sum())
    return Cache(
        hit_tokens=hit_tokens,
        host_tokens=int(table.of("cached_host_tokens").sum()),
        peer_tokens=int(table.of("cached_peer_tokens").sum()),
        hit_share=hit_tokens / asked if asked else 0.0,
    )
