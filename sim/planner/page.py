"""A plan as one HTML file: opens from disk, needs no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..results.html import figures, fill, heading, table
from ..results.plots import Figure
from ..results.text_tables import TextTable
from .drafts import Plan, Tried
from .findings import binding, front
from .report import COLUMNS, answers, found_line, row_of, strain_rows

MET, MISSED, FRONT = "#10b981", "#9ca3af", "#2563eb"
ABOUT = {
    "front": (
        "Dollars and watts",
        "Every fleet tried at the load's own rate. Along the line none beats another in all three.",
    ),
    "search": ("The search", "What each fleet costs, in the order in which they were tried."),
}


def page_of(plan: Plan) -> str:
    """The whole page. Raises ResultsError where plotly is not installed."""
    load, slo = plan.ask.tried(1.0).load, plan.ask.question.slo
    parts = [heading("The answer", "; ".join(binding(plan)))]
    parts.append(table(_table("Fleets", ("", *COLUMNS), answers(plan))))
    if plan.strains:
        columns = ("", "fleet", "outcome")
        parts.append(table(_table("How it degrades", columns, strain_rows(plan))))
    parts.append(heading("The choice", ""))
    parts.append(figures(ABOUT, tuple(ABOUT)))
    parts.append(table(_table("Pareto front", COLUMNS, [row_of(one) for one in front(plan)])))
    parts.append(heading("What this rests on", found_line(plan)))
    rests = [(kind.name, kind.blocks.origin) for kind in plan.types]
    parts.append(table(_table("KV blocks", ("worker", "from"), rests)))
    subtitle = (
        f"{load.requests} requests at {load.rate_per_s:.2f}/s; SLO: TTFT ≤ {slo.ttft_s:g} s, "
        f"TPOT ≤ {slo.tpot_s * 1e3:g} ms for {slo.percent:g} % of them; seed "
        f"{plan.ask.question.seed}"
    )
    plots = {"front": _front(plan), "search": _search(plan)}
    return fill(f"A fleet for {Path(load.name).name}", subtitle, "\n".join(parts), plots)


def _front(plan: Plan) -> Figure:
    own = [one for one in plan.tried if one.factor == 1]
    traces = [
        _points("meets the SLO", [one for one in own if one.verdict.met], MET),
        _points("misses it", [one for one in own if not one.verdict.met], MISSED),
        _points("Pareto front", front(plan), FRONT) | {"mode": "lines+markers"},
    ]
    return _figure([trace for trace in traces if trace["x"]], "$/h", "kW, power limits")


def _search(plan: Plan) -> Figure:
    order = list(enumerate(plan.tried, start=1))
    traces = []
    for name, met, colour in (("meets the SLO", True, MET), ("misses it", False, MISSED)):
        mine = [(place, one) for place, one in order if one.verdict.met is met]
        points = _points(name, [one for _, one in mine], colour)
        traces.append(points | {"x": [place for place, _ in mine], "y": points["x"]})
    return _figure([trace for trace in traces if trace["x"]], "try", "$/h")


def _points(name: str, fleets: Sequence[Tried], colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [round(one.fleet.dollars_per_hour, 4) for one in fleets],
        "y": [round(one.fleet.watts / 1e3, 4) for one in fleets],
        "text": [f"{one.fleet.name}: {one.verdict.attainment:.1%}" for one in fleets],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": colour, "size": 9},
        "line": {"color": colour},
    }


def _figure(traces: list[dict[str, Any]], x_title: str, y_title: str) -> Figure:
    layout = {
        "margin": {"l": 56, "r": 16, "t": 44, "b": 48},
        "height": 360,
        "xaxis": {"title": {"text": x_title}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": y_title}, "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> TextTable:
    return TextTable(section="", title=title, columns=columns, rows=rows)
