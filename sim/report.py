"""A run's metrics as tables in the terminal."""

from rich.console import Group
from rich.table import Table

from .metrics import Metrics, Moves, Spread
from .scenario import Scenario


def tables(scenario: Scenario, metrics: Metrics) -> Group:
    """Latencies, totals and moves of one run."""
    return Group(_latencies(scenario, metrics), _totals(scenario, metrics), _moves(metrics))


def _latencies(scenario: Scenario, metrics: Metrics) -> Table:
    table = Table(
        title="Latency, seconds",
        caption="TTFT: arrival to first token. TPOT: (last − first) / (tokens − 1) per request.\n"
        "ITL: every gap between tokens. E2E: arrival to last token. Nearest-rank percentiles.",
    )
    table.add_column("")
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    table.add_column("SLO", justify="right")
    slo = scenario.slo
    rows = (
        ("TTFT", metrics.ttft, f"≤ {slo.ttft_s:g}"),
        ("TPOT", metrics.tpot, f"≤ {slo.tpot_s:g}"),
        ("ITL", metrics.itl, ""),
        ("E2E", metrics.e2e, ""),
    )
    for name, spread, bound in rows:
        table.add_row(name, *_cells(spread), bound)
    return table


def _totals(scenario: Scenario, metrics: Metrics) -> Table:
    table = Table(title="Run", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    pools = " ".join(
        f"{pool.count}×{pool.name}({scenario.blocks_of(pool).count})" for pool in scenario.pools
    )
    ended = f"{metrics.completed} / {metrics.rejected} / {metrics.failed} / {metrics.cancelled}"
    rows = {
        "pools (KV blocks per worker)": pools,
        "seed": str(scenario.seed),
        "requests": str(metrics.requests),
        "completed / rejected / failed / cancelled": ended,
        "virtual seconds": f"{metrics.virtual_s:.1f}",
        "prompt tokens (of them cached)": f"{metrics.prompt_tokens} ({metrics.cached_tokens})",
        "output tokens": str(metrics.output_tokens),
        "SLO attainment": f"{metrics.attainment:.1%}",
        "goodput, requests/s": f"{metrics.goodput_per_s:.2f}",
        "placements per request": f"{metrics.attempts / max(1, metrics.completed):.2f}",
        "engines busy": f"{metrics.busy:.1%}",
    }
    if metrics.energy_j is not None and metrics.mean_w is not None:
        rows["energy, kJ (mean W)"] = f"{metrics.energy_j / 1e3:.1f} ({metrics.mean_w:.0f})"
    if metrics.token_j is not None:
        rows["J per token, prompt and output"] = f"{metrics.token_j:.3f}"
    for what, value in rows.items():
        table.add_row(what, value)
    return table


def _moves(metrics: Metrics) -> Table:
    table = Table(title="KV moves")
    table.add_column("")
    for name in ("committed", "aborted", "GB", "hidden", "downtime p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_row("handoff", *_move_cells(metrics.handoffs))
    table.add_row("migration", *_move_cells(metrics.migrations))
    return table


def _move_cells(moves: Moves) -> list[str]:
    hidden = moves.hidden_bytes / moves.transfer_bytes if moves.transfer_bytes else None
    downtime = moves.downtime
    return [
        str(moves.committed),
        str(moves.aborted),
        f"{moves.transfer_bytes / 1e9:.2f}",
        "–" if hidden is None else f"{hidden:.0%}",
        "–" if downtime is None else f"{downtime.p50_s * 1e3:.1f}",
        "–" if downtime is None else f"{downtime.p99_s * 1e3:.1f}",
    ]


def _cells(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["–"] * 5
    values = (spread.mean_s, spread.p50_s, spread.p90_s, spread.p99_s, spread.max_s)
    return [f"{value:.4f}" for value in values]
