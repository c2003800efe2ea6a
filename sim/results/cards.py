"""The headline figures of a run: what is read first."""

from dataclasses import dataclass

from ..metrics import Spread
from .results import Results

GOOD, BAD, PLAIN = "good", "bad", ""
ATTAINMENT_GOOD = 0.9  # at least: green


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure with its unit, and what stands beside it in small."""

    what: str
    figure: str
    unit: str = ""
    beside: str = ""
    mood: str = PLAIN


def cards_of(results: Results) -> list[Card]:
    """In order of worth; without those that there are no figures for."""
    metrics, slo = results.metrics, results.scenario["slo"]
    return [
        Card(
            what="SLO attainment",
            figure=f"{metrics.attainment:.1%}",
            beside=f"{metrics.slo_met} of {metrics.requests - metrics.cancelled} requests",
            mood=GOOD if metrics.attainment >= ATTAINMENT_GOOD else BAD,
        ),
        Card(
            what="Goodput",
            figure=number(metrics.goodput_per_s),
            unit="requests/s",
            beside=_per_gpu(results),
        ),
        _latency("TTFT p90", metrics.ttft, slo["ttft_s"]),
        _latency("TPOT p90", metrics.tpot, slo["tpot_s"]),
        *_money(results),
        *_power(results),
        Card(
            what="Throughput",
            figure=number(_per_s(results, metrics.output_tokens)),
            unit="tokens/s",
            beside=f"of output; {number(_per_s(results, metrics.prompt_tokens))} of prompts",
        ),
        Card(
            what="Utilisation",
            figure=f"{metrics.busy:.0%}",
            beside=", ".join(
                f"{pool.name} {pool.utilisation:.0%}"
                for pool in results.pools
                if pool.utilisation is not None
            ),
        ),
        Card(
            what="Cache hits",
            figure=f"{results.cache.hit_share:.1%}",
            beside=f"{results.cache.hit_tokens:,} prompt tokens",
        ),
        Card(
            what="Moves",
            figure=f"{metrics.handoffs.committed:,}",
            unit="handoffs",
            beside=f"{metrics.migrations.committed:,} migrations, "
            f"{sum(pool.preemptions for pool in results.pools):,} preemptions",
        ),
    ]


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def seconds(value: float) -> tuple[str, str]:
    """A time and its unit."""
    if value >= 1:
        return f"{value:.2f}", "s"
    return f"{value * 1e3:.3g}", "ms"


def _per_s(results: Results, count: int) -> float:
    span_s = results.metrics.virtual_s
    return count / span_s if span_s else 0.0


def _latency(what: str, spread: Spread | None, bound: float) -> Card:
    if spread is None:
        return Card(what=what, figure="–", beside="no request completed")
    figure, unit = seconds(spread.p90_s)
    beside = ", ".join(
        f"{name} {' '.join(seconds(value))}"
        for name, value in (("p50", spread.p50_s), ("p99", spread.p99_s))
    )
    mood = GOOD if spread.p90_s <= bound else BAD
    return Card(what=what, figure=figure, unit=unit, beside=beside, mood=mood)


def _per_gpu(results: Results) -> str:
    bill = results.bill
    if bill.goodput_per_gpu is None:
        return f"of {results.metrics.requests / results.metrics.virtual_s:.3g} offered" if (
            results.metrics.virtual_s
        ) else ""  # fmt: skip
    return f"{number(bill.goodput_per_gpu)} per GPU, {bill.gpus} GPUs"


def _money(results: Results) -> list[Card]:
    bill = results.bill
    if bill.dollars_per_hour is None:
        return []
    per_token = bill.dollars_per_million_tokens
    beside = "" if per_token is None else f"${per_token:.2f} per M output tokens"
    return [Card(what="Price", figure=f"${bill.dollars_per_hour:,.2f}", unit="/h", beside=beside)]


def _power(results: Results) -> list[Card]:
    bill = results.bill
    if bill.mean_w is None:
        return []
    beside = "" if bill.token_j is None else f"{bill.token_j:.3g} J per token"
    return [Card(what="Power", figure=f"{bill.mean_w / 1e3:.2f}", unit="kW", beside=beside)]
