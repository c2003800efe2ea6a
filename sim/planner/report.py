"""A plan in the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .drafts import Plan, Tried
from .findings import binding, front, strained

FRONT_MAX = 12
COLUMNS = ("fleet", "GPUs", "$/h", "kW", "rate", "within SLO", "TTFT s", "TPOT ms")


def report(plan: Plan) -> Group:
    """The answer, why it is that, how it degrades, the front, and how it was found."""
    parts: list[RenderableType] = [_answers(plan)]
    if plan.best is not None:
        parts += [Text(line, style="dim") for line in binding(plan)]
    if plan.strains:
        parts.append(_strains(plan))
    if points := front(plan):
        parts.append(_front(points))
    parts.append(Text(found_line(plan)))
    return Group(*parts)


def found_line(plan: Plan) -> str:
    """How many fleets there were, and what became of them."""
    found = plan.found
    runs = len(plan.tried)
    line = (
        f"{found.candidates} fleets: {found.beyond_bounds} ruled out by bounds, {found.short} by "
        f"{plan.pools_tried} prefill pools tried by themselves, {found.tried} simulated ({runs} "
        f"runs in all), {found.beyond_others} "
        "no cheaper than one found or no larger than one that failed"
    )
    if not found.open:
        return line
    least = "" if found.least_open is None else f", from {found.least_open:.2f} {plan.ask.unit} on"
    return f"{line}; {found.open} not looked at{least}"


def best_line(plan: Plan) -> str:
    """The best so far, in one line."""
    best = plan.best
    if best is None:
        return "no fleet found yet that meets the SLO"
    fleet = best.fleet
    return f"{fleet.name}: {fleet.dollars_per_hour:.2f} $/h, {fleet.watts / 1e3:.1f} kW"


def answers(plan: Plan) -> list[tuple[str, ...]]:
    """A row for the cheapest, one for the budget's best."""
    rows = []
    if plan.cheapest is not None:
        sure = "cheapest" if plan.proven else "cheapest found"
        rows.append((sure, *row_of(plan.cheapest)))
    if plan.for_budget is not None:
        budget = plan.ask.budget
        assert budget is not None, "a fleet for a budget comes of one"
        rows.append((f"for {budget.value:g} {budget.unit}", *row_of(plan.for_budget)))
    return rows


def strain_rows(plan: Plan) -> list[tuple[str, ...]]:
    """What was changed, the fleet, the outcome."""
    slo = plan.ask.question.slo
    return [(s.name, s.tried.fleet.name, strained(s, slo)) for s in plan.strains]


def row_of(one: Tried) -> tuple[str, ...]:
    """A fleet and its run, in the order of COLUMNS."""
    fleet, verdict = one.fleet, one.verdict
    return (
        fleet.name,
        str(fleet.gpus),
        f"{fleet.dollars_per_hour:.2f}",
        f"{fleet.watts / 1e3:.1f}",
        f"{one.factor:.2f} ×",
        f"{verdict.attainment:.1%}",
        "–" if verdict.ttft_s is None else f"{verdict.ttft_s:.2f}",
        "–" if verdict.tpot_s is None else f"{verdict.tpot_s * 1e3:.0f}",
    )


def _answers(plan: Plan) -> Table:
    slo, load = plan.ask.question.slo, plan.ask.tried(1.0).load
    table = Table(
        title=f"Fleets for {load.name}, {load.rate_per_s:.2f} requests/s",
        caption=f"SLO: TTFT ≤ {slo.ttft_s:g} s, TPOT ≤ {slo.tpot_s * 1e3:g} ms for {slo.percent:g} "
        "% of the requests.\nkW: the GPUs' power limits. TTFT and TPOT at the same percentile.",
    )
    table.add_column("")
    _fill(table, answers(plan))
    return table


def _front(points: list[Tried]) -> Table:
    table = Table(
        title="Pareto front of the fleets tried at this rate",
        caption="No other one of them is better in dollars, watts and requests within the SLO.",
    )
    _fill(table, [row_of(one) for one in points[:FRONT_MAX]])
    return table


def _fill(table: Table, rows: list[tuple[str, ...]]) -> None:
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "fleet" else "right")
    for row in rows:
        table.add_row(*row)


def _strains(plan: Plan) -> Table:
    table = Table(title="How it degrades")
    for name in ("", "fleet", "outcome"):
        table.add_column(name)
    for row in strain_rows(plan):
        table.add_row(*row)
    return table
