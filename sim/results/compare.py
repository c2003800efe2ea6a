"""Runs side by side: every figure, and its ratio to that of the first run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..metrics import Spread
from .definitions import said
from .html import figures, fill, heading, table
from .plots import compared
from .results import Results
from .text_tables import NOTHING, TextTable

Get = Callable[[Results], float | None]
PLOTS = {
    "ttft_s": ("Time to first token", "Share of requests within so many seconds."),
    "tpot_s": ("Time per output token", "One number per request."),
    "e2e_s": ("End to end", "Arrival to last token."),
    "tokens_per_s": ("Throughput", "Output tokens per second."),
    "in_flight": ("In flight", "Between arrival and last token."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure of every run: how to get it, and how it is shown."""

    what: str
    get: Get
    shape: str = "{:.4g}"


def comparison(runs: Sequence[Results]) -> TextTable:
    """A column per run, and for each but the first its ratio to the first."""
    names = names_of(runs)
    others = [f"{name} / {names[0]}" for name in names[1:]]
    rows = [cells for line in LINES if (cells := _cells(line, runs)) is not None]
    return TextTable(
        section="",
        title="Side by side",
        columns=("", *names, *others),
        rows=rows,
        caption=said("TTFT", "TPOT", "SLO attainment", "goodput"),
    )


def differing(runs: Sequence[Results]) -> TextTable:
    """The keys of the scenarios that are not the same in all runs."""
    flat = [_flat(run.scenario) for run in runs]
    keys = sorted({key for each in flat for key in each})
    rows = [
        (key, *(str(each.get(key, NOTHING)) for each in flat))
        for key in keys
        if len({str(each.get(key)) for each in flat}) > 1
    ]
    return TextTable(
        section="", title="Scenarios differ in", columns=("", *names_of(runs)), rows=rows
    )


def names_of(runs: Sequence[Results]) -> list[str]:
    """What the runs are called, told apart by number where two bear one name."""
    names = [run.name for run in runs]
    return [
        f"{name} ({index})" if names.count(name) > 1 else name
        for index, name in enumerate(names, start=1)
    ]


def comparison_page(runs: Sequence[Results]) -> str:
    """As one HTML file. Raises ResultsError where plotly is not installed."""
    plots = compared(runs, names_of(runs))
    shown = [name for name in PLOTS if name in plots]
    body = [
        heading("What differs", ""), table(differing(runs)),
        heading("Distributions and course", ""), figures(PLOTS, shown),
        heading("Figures", ""), table(comparison(runs)),
    ]  # fmt: skip
    names = names_of(runs)
    return fill(" against ".join(names), "simulated runs side by side", "\n".join(body), plots)


def write_comparison(runs: Sequence[Results], path: Path) -> None:
    """The page at `path`. Raises ResultsError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(comparison_page(runs))


def _cells(line: Line, runs: Sequence[Results]) -> list[str] | None:
    values = [line.get(run) for run in runs]
    if all(value is None for value in values):
        return None
    first = values[0]
    shown = [NOTHING if value is None else line.shape.format(value) for value in values]
    ratios = [
        f"{value / first:.3f}" if first and value is not None else NOTHING for value in values[1:]
    ]
    return [line.what, *shown, *ratios]


def _spread(what: str, get: Callable[[Results], Spread | None]) -> list[Line]:
    def part(name: str) -> Get:
        def get_part(run: Results) -> float | None:
            spread = get(run)
            return None if spread is None else float(getattr(spread, name))

        return get_part

    names = ("mean_s", "p50_s", "p90_s", "p99_s")
    return [Line(what=f"{what} {name.removesuffix('_s')}, s", get=part(name)) for name in names]


def _flat(tables: object, prefix: str = "") -> dict[str, object]:
    if isinstance(tables, dict):
        found: dict[str, object] = {}
        for key, value in tables.items():
            found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(tables, list) and any(isinstance(item, dict) for item in tables):
        return _flat({str(index): item for index, item in enumerate(tables)}, prefix)
    return {prefix: tables}


LINES: tuple[Line, ...] = (
    Line(what="requests", get=lambda run: run.metrics.requests, shape="{:.0f}"),
    Line(what="completed", get=lambda run: run.metrics.completed, shape="{:.0f}"),
    Line(what="SLO attainment", get=lambda run: run.metrics.attainment, shape="{:.1%}"),
    Line(what="goodput, requests/s", get=lambda run: run.metrics.goodput_per_s),
    Line(what="goodput per GPU", get=lambda run: run.bill.goodput_per_gpu),
    Line(what="requests within SLO per $", get=lambda run: run.bill.slo_met_per_dollar),
    *_spread("TTFT", lambda run: run.metrics.ttft),
    *_spread("TPOT", lambda run: run.metrics.tpot),
    *_spread("ITL", lambda run: run.metrics.itl),
    *_spread("E2E", lambda run: run.metrics.e2e),
    *_spread("queue", lambda run: run.spans.queue),
    *_spread("wait", lambda run: run.spans.wait),
    *_spread("prefill", lambda run: run.spans.prefill),
    *_spread("exposed transfer", lambda run: run.spans.exposed),
    Line(what="$/h", get=lambda run: run.bill.dollars_per_hour, shape="{:.2f}"),
    Line(what="$ per million tokens", get=lambda run: run.bill.dollars_per_million_tokens),
    Line(what="W (mean)", get=lambda run: run.bill.mean_w),
    Line(what="J per token", get=lambda run: run.bill.token_j),
    Line(what="cache hits", get=lambda run: run.cache.hit_share, shape="{:.1%}"),
    Line(what="engines busy", get=lambda run: run.metrics.busy, shape="{:.1%}"),
    Line(what="handoffs", get=lambda run: run.metrics.handoffs.committed, shape="{:.0f}"),
    Line(what="migrations", get=lambda run: run.metrics.migrations.committed, shape="{:.0f}"),
    Line(
        what="preemptions",
        get=lambda run: sum(pool.preemptions for pool in run.pools) if run.pools else None,
        shape="{:.0f}",
    ),
)
