"""A run's figures as tables of text, for the terminal and for the report alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..metrics import Moves, Spread
from .definitions import said
from .results import Results
from .workers import PoolFigures

NOTHING = "–"
SPREAD_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Cells as they are shown; `section` is the part of the report it belongs to."""

    section: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


def tables_of(results: Results) -> list[TextTable]:
    """All of them, in order."""
    tables = [_latencies(results), _spans(results), _moves(results), _run(results)]
    return [*tables, *([_pools(results)] if results.pools else [])]


def _latencies(results: Results) -> TextTable:
    metrics, slo = results.metrics, results.scenario["slo"]
    rows = (
        ("TTFT", metrics.ttft, f"≤ {slo['ttft_s']:g}"),
        ("TPOT", metrics.tpot, f"≤ {slo['tpot_s']:g}"),
        ("ITL", metrics.itl, ""),
        ("E2E", metrics.e2e, ""),
    )
    return TextTable(
        section="Latency",
        title="Latency, seconds",
        columns=("", *SPREAD_COLUMNS, "SLO"),
        rows=[(name, *_cells(spread), bound) for name, spread, bound in rows],
        caption=said("TTFT", "TPOT", "ITL", "E2E", "percentile"),
    )


def _spans(results: Results) -> TextTable:
    spans = results.spans
    rows = (
        ("queue", spans.queue),
        ("fetch", spans.fetch),
        ("wait", spans.wait),
        ("prefill", spans.prefill),
        ("delivery", spans.delivery),
        ("transfer", spans.transfer),
        ("exposed transfer", spans.exposed),
    )
    return TextTable(
        section="Where the time went",
        title="Stages, seconds",
        columns=("", *SPREAD_COLUMNS),
        rows=[(name, *_cells(spread)) for name, spread in rows],
        caption=said(*(name for name, _ in rows)),
    )


def _moves(results: Results) -> TextTable:
    names = ("committed", "aborted", "GB", "hidden", "downtime p50 ms", "p99 ms")
    metrics = results.metrics
    return TextTable(
        section="Where the time went",
        title="KV moves",
        columns=("", *names),
        rows=[
            ("handoff", *_move_cells(metrics.handoffs)),
            ("migration", *_move_cells(metrics.migrations)),
        ],
        caption="hidden: share of the bytes sent while the source still computed the request.\n"
        "downtime: last token of the source to the first of the target.",
    )


def _run(results: Results) -> TextTable:
    metrics, bill = results.metrics, results.bill
    ended = f"{metrics.completed} / {metrics.rejected} / {metrics.failed} / {metrics.cancelled}"
    rows = {
        "pools (KV blocks per worker)": _fleet(results),
        "seed": str(results.scenario["seed"]),
        "requests": str(metrics.requests),
        "completed / rejected / failed / cancelled": ended,
        "virtual seconds": f"{metrics.virtual_s:.1f}",
        "prompt tokens (of them cached)": f"{metrics.prompt_tokens} ({metrics.cached_tokens})",
        "output tokens": str(metrics.output_tokens),
        "SLO attainment": f"{metrics.attainment:.1%}",
        "goodput, requests/s": f"{metrics.goodput_per_s:.2f}",
        "goodput per GPU": _figure(bill.goodput_per_gpu, "{:.3f}"),
        "requests within SLO per $": _figure(bill.slo_met_per_dollar, "{:.1f}"),
        "$/h": _figure(bill.dollars_per_hour, "{:.2f}"),
        "$ per million output tokens": _figure(bill.dollars_per_million_tokens, "{:.3f}"),
        "energy, kJ": _figure(_kilo(metrics.energy_j), "{:.1f}"),
        "W (mean)": _figure(bill.mean_w, "{:.0f}"),
        "J per token, prompt and output": _figure(bill.token_j, "{:.3f}"),
        "placements per request": f"{metrics.attempts / max(1, metrics.completed):.2f}",
        "engines busy": f"{metrics.busy:.1%}",
    }
    known = [(what, value) for what, value in rows.items() if value != NOTHING]
    return TextTable(
        section="The fleet",
        title="Run",
        columns=("", ""),
        rows=known,
        caption=said("SLO met", "SLO attainment", "goodput"),
    )


def _pools(results: Results) -> TextTable:
    return TextTable(
        section="The fleet",
        title="Pools",
        columns=(
            "", "role", "workers", "GPUs", "KV blocks", "utilisation", "batch mean", "max",
            "KV mean", "max", "preemptions",
        ),
        rows=[_pool_cells(pool) for pool in results.pools],
        caption=said("utilisation", "batch", "KV occupancy", "preemption"),
    )  # fmt: skip


def _pool_cells(pool: PoolFigures) -> tuple[str, ...]:
    return (
        pool.name,
        pool.role,
        str(pool.workers),
        _figure(pool.gpus, "{}"),
        str(pool.blocks),
        _figure(pool.utilisation, "{:.1%}"),
        _figure(pool.batch_mean, "{:.1f}"),
        _figure(pool.batch_max, "{}"),
        _figure(pool.kv_mean, "{:.1%}"),
        _figure(pool.kv_max, "{:.1%}"),
        str(pool.preemptions),
    )


def _fleet(results: Results) -> str:
    blocks = {pool.name: pool.blocks for pool in results.pools}
    return " ".join(
        f"{pool['count']}×{pool['name']}({blocks.get(pool['name'], pool['blocks'])})"
        for pool in results.scenario["pools"]
    )


def _move_cells(moves: Moves) -> list[str]:
    hidden = moves.hidden_bytes / moves.transfer_bytes if moves.transfer_bytes else None
    downtime = moves.downtime
    return [
        str(moves.committed),
        str(moves.aborted),
        f"{moves.transfer_bytes / 1e9:.2f}",
        _figure(hidden, "{:.0%}"),
        NOTHING if downtime is None else f"{downtime.p50_s * 1e3:.1f}",
        NOTHING if downtime is None else f"{downtime.p99_s * 1e3:.1f}",
    ]


def _cells(spread: Spread | None) -> list[str]:
    if spread is None:
        return [NOTHING] * len(SPREAD_COLUMNS)
    values = (
        spread.mean_s, spread.p50_s, spread.p90_s, spread.p95_s, spread.p99_s, spread.max_s
    )  # fmt: skip
    return [f"{value:.4f}" for value in values]


def _kilo(value: float | None) -> float | None:
    return None if value is None else value / 1e3


def _figure(value: float | None, shape: str) -> str:
    return NOTHING if value is None else shape.format(value)
