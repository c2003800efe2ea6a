"""The report's plots, as plain data for plotly.js: nothing is imported to make them."""

from collections.abc import Iterable, Sequence
from math import ceil, log10
from typing import Any

from .curves import PERCENTS, Timeline
from .results import Results
from .stages import STAGES
from .workers import Samples

Figure = dict[str, Any]  # {"data": [...], "layout": {...}}, as plotly.js takes it
INK, PALE = "#1f2937", "#e5e7eb"
COLOURS = ("#2563eb", "#f59e0b", "#10b981", "#8b5cf6", "#ef4444", "#0ea5e9", "#84cc16", "#ec4899")
LINE_POINTS_MAX = 120  # of a line over samples: more is noise to the eye
SLO_COLOUR = "#dc2626"
HEAT = ((0.0, "#f8fafc"), (0.5, "#60a5fa"), (0.85, "#1d4ed8"), (1.0, "#b91c1c"))


def plots_of(results: Results) -> dict[str, Figure]:
    """Every plot that there is data for, by the id it has in the page."""
    slo = results.scenario["slo"]
    plots = {
        "ttft": _cdf("TTFT, s", {"": results.quantiles.ttft_s}, slo["ttft_s"]),
        "tpot": _cdf("TPOT, s", {"": results.quantiles.tpot_s}, slo["tpot_s"]),
        "e2e": _cdf("E2E, s", {"": results.quantiles.e2e_s}, None),
        "bands": _bands(results),
        "moves": _moves(results),
    }
    if results.timeline is not None:
        plots |= _timelines(results.timeline)
    if results.samples is not None and results.samples.count:
        plots |= _loads(results.samples)
    return {name: plot for name, plot in plots.items() if plot["data"]}


def compared(runs: Sequence[Results], names: Sequence[str]) -> dict[str, Figure]:
    """Distributions and course of several runs, one over the other, by the run's name."""
    named = list(zip(names, runs, strict=True))
    plots: dict[str, Figure] = {}
    for key, title in (("ttft_s", "TTFT, s"), ("tpot_s", "TPOT, s"), ("e2e_s", "E2E, s")):
        curves = {name: getattr(run.quantiles, key) for name, run in named}
        bounds = {run.scenario["slo"].get(key) for run in runs}
        plots[key] = _cdf(title, curves, bounds.pop() if len(bounds) == 1 else None)
    for key, title in (("tokens_per_s", "Output tokens/s"), ("in_flight", "Requests in flight")):
        traces = [
            _line(name, _times(run.timeline), getattr(run.timeline, key), index)
            for index, (name, run) in enumerate(named)
            if run.timeline is not None
        ]
        plots[key] = _figure(traces, "virtual seconds", title)
    return {name: plot for name, plot in plots.items() if plot["data"]}


def _cdf(title: str, curves: dict[str, tuple[float, ...]], bound: float | None) -> Figure:
    traces = [
        _line(name or title, values, PERCENTS, index)
        | {"hovertemplate": "%{y:g} % within %{x:.4g} s<extra></extra>"}
        for index, (name, values) in enumerate(curves.items())
        if values
    ]
    figure = _figure(traces, title, "% of requests")
    layout, log = figure["layout"], _spread_out(curves.values())
    layout["xaxis"] |= {"type": "log" if log else "linear"}
    layout["yaxis"] |= {"range": [0, 101]}
    layout["showlegend"] = len(traces) > 1
    if bound is not None and traces:
        layout |= _bound_line(bound, log10(bound) if log else bound)
    return figure


def _bound_line(bound: float, place: float) -> dict[str, Any]:
    """A dashed line at the bound, its name beside it; labels of a log axis go by the exponent."""
    shape = {
        "type": "line", "x0": bound, "x1": bound, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": SLO_COLOUR, "dash": "dash", "width": 1.5},
    }  # fmt: skip
    label = {
        "text": f"SLO {bound:g} s", "x": place, "yref": "paper", "y": 0.03, "xanchor": "right",
        "yanchor": "bottom", "showarrow": False, "font": {"color": SLO_COLOUR},
    }  # fmt: skip
    return {"shapes": [shape], "annotations": [label]}


def _spread_out(curves: Iterable[tuple[float, ...]]) -> bool:
    """Whether a linear axis would press the bulk against its left edge."""
    ends = [(values[0], values[-1]) for values in curves if values]
    return bool(ends) and min(low for low, _ in ends) > 0 and (
        max(high for _, high in ends) > 20 * min(low for low, _ in ends)
    )  # fmt: skip


def _timelines(timeline: Timeline) -> dict[str, Figure]:
    times = _times(timeline)
    rates = (
        ("arrivals", timeline.arrivals_per_s),
        ("completed", timeline.ended_per_s),
        ("SLO met", timeline.met_per_s),
    )
    lines = [_line(name, times, values, index) for index, (name, values) in enumerate(rates)]
    lines[1]["line"] |= {"dash": "dot", "width": 3}  # often under the next one
    tokens = _line("output tokens/s", times, timeline.tokens_per_s, 3) | {"fill": "tozeroy"}
    flight = _line("in flight", times, timeline.in_flight, 5) | {"fill": "tozeroy"}
    return {
        "rates": _figure(lines, "virtual seconds", "requests/s"),
        "tokens": _figure([tokens], "virtual seconds", "output tokens/s"),
        "flight": _figure([flight], "virtual seconds", "requests in flight"),
    }


def _loads(samples: Samples) -> dict[str, Figure]:
    times = [round((index + 1) * samples.period_s, 6) for index in range(samples.count)]
    together = max(1, samples.count // LINE_POINTS_MAX)
    starts = times[::together]
    pools = list(dict.fromkeys(worker.pool for worker in samples.workers))
    busy, batches = [], []
    for index, pool in enumerate(pools):
        mine = [worker for worker in samples.workers if worker.pool == pool]
        used = _means([worker.utilisation for worker in mine])
        shares = [_percent(share) for share in _slices(used, together)]
        busy.append(_line(pool, starts, shares, index))
        running = _slices(_means([worker.running for worker in mine]), together)
        batches.append(_line(pool, starts, running, index))
    rows = [[_percent(value) for value in worker.kv_occupancy] for worker in samples.workers]
    most = max((value for row in rows for value in row if value is not None), default=0.0)
    heat = {
        "type": "heatmap",
        "x": times,
        "y": [worker.worker_id for worker in samples.workers],
        "z": rows, "zmin": 0, "zmax": 100 if most > 50 else max(1, ceil(most)),
        "colorscale": [list(stop) for stop in HEAT],
        "colorbar": {"title": {"text": "% of blocks"}, "thickness": 12},
        "hovertemplate": "%{y}, %{x:.1f} s: %{z:.0f} %<extra></extra>",
    }  # fmt: skip
    figures = {
        "busy": _figure(busy, "virtual seconds", "utilisation, %"),
        "batch": _figure(batches, "virtual seconds", "requests running per worker"),
        "heat": _figure([heat], "virtual seconds", ""),
    }
    figures["heat"]["layout"]["yaxis"] |= {"autorange": "reversed", "type": "category"}
    figures["heat"]["layout"]["height"] = min(900, 160 + 16 * len(samples.workers))
    return figures


def _bands(results: Results) -> Figure:
    labels = [band.label for band in results.bands]
    traces = [
        {
            "type": "bar", "name": stage, "x": labels,
            "y": [band.stages_s[stage] for band in results.bands],
            "marker": {"color": COLOURS[index]},
            "hovertemplate": f"{stage}: %{{y:.4g}} s<extra>%{{x}}</extra>",
        }
        for index, stage in enumerate(STAGES)
        if results.bands
    ]  # fmt: skip
    figure = _figure(traces, "requests by their TTFT", "mean seconds of TTFT")
    figure["layout"]["barmode"] = "stack"
    return figure


def _moves(results: Results) -> Figure:
    moves = {"handoff": results.metrics.handoffs, "migration": results.metrics.migrations}
    known = {name: kind for name, kind in moves.items() if kind.transfer_bytes}
    parts = {
        "hidden behind compute": [kind.hidden_bytes for kind in known.values()],
        "exposed": [kind.transfer_bytes - kind.hidden_bytes for kind in known.values()],
    }
    traces = [
        {
            "type": "bar", "orientation": "h", "name": name, "y": list(known),
            "x": [count / 1e9 for count in counts], "marker": {"color": colour},
            "hovertemplate": f"{name}: %{{x:.3g}} GB<extra>%{{y}}</extra>",
        }
        for (name, counts), colour in zip(parts.items(), (COLOURS[2], COLOURS[4]), strict=True)
        if known
    ]  # fmt: skip
    figure = _figure(traces, "GB of KV moved", "")
    figure["layout"]["barmode"] = "stack"
    return figure


def _line(name: str, x: Sequence[Any], y: Sequence[Any], index: int) -> dict[str, Any]:
    colour = COLOURS[index % len(COLOURS)]
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(y),
        "line": {"width": 1.8, "color": colour},
    }  # fmt: skip


def _figure(traces: list[dict[str, Any]], x_title: str, y_title: str) -> Figure:
    axis = {"gridcolor": PALE, "zerolinecolor": PALE, "automargin": True}
    layout = {
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "margin": {"l": 56, "r": 16, "t": 44, "b": 48},
        "height": 320,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"title": {"text": x_title}, **axis},
        "yaxis": {"title": {"text": y_title}, **axis},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _times(timeline: Timeline | None) -> list[float]:
    if timeline is None:
        return []
    return [round((index + 0.5) * timeline.slice_s, 6) for index in range(len(timeline.in_flight))]


def _means(series: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Sample by sample, over the workers that were up."""
    return [_mean(values) for values in zip(*series, strict=True)]


def _slices(values: Sequence[float | None], size: int) -> list[float | None]:
    """The mean of each `size` samples in turn."""
    return [_mean(values[at : at + size]) for at in range(0, len(values), size)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
