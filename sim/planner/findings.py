"""What a finished plan says: which bound is nearest, which pool binds, the Pareto front."""

from dataclasses import asdict
from typing import Any

from .drafts import Plan, Tried, Weakness
from .slo import Slo
from .trial import Verdict

FULL = 0.95  # of a pool's KV blocks: above it nothing more is placed there


def binding(plan: Plan) -> list[str]:
    """What keeps a smaller fleet from doing, one line per reason; empty without an answer."""
    best = plan.best
    if best is None:
        return []
    slo = plan.ask.question.slo
    lines = [_nearest(best.verdict, slo)]
    for strain in plan.strains[1:]:
        verdict = strain.tried.verdict
        held = "the SLO still holds" if verdict.met else _why(verdict, slo)
        lines.append(f"{strain.name}: {held}")
    verdict = best.verdict
    pools = zip(best.fleet.shape.roles, verdict.busy, verdict.full, strict=True)
    for role, busy, full in pools:
        lines.append(
            f"{role} workers compute {busy:.0%} of the time; at most {full:.0%} of their KV blocks "
            "were in use"
        )
    return lines


def front(plan: Plan) -> list[Tried]:
    """Of the fleets run to their end at the load's own rate, those that no other one beats in
    dollars, watts and goodput; the cheapest first.
    """
    whole = {
        one.fleet.name: one for one in plan.tried if one.factor == 1 and not one.verdict.stopped
    }
    kept = [one for one in whole.values() if not any(_beats(o, one) for o in whole.values())]
    return sorted(kept, key=lambda one: (one.fleet.dollars_per_hour, one.fleet.name))


def as_json(plan: Plan) -> dict[str, Any]:
    """Everything of a plan in plain dicts and numbers."""
    ask = plan.ask
    load = ask.tried(1.0).load
    return {
        "load": {
            "name": load.name,
            "requests": load.requests,
            "rate_per_s": load.rate_per_s,
            "span_s": load.span_s,
        },
        "slo": asdict(ask.question.slo),
        "candidates": plan.found.candidates,
        "pruned_by_bounds": plan.found.beyond_bounds,
        "pruned_by_prefill_pools": plan.found.short,
        "prefill_pools_tried": plan.pools_tried,
        "pruned_by_others": plan.found.beyond_others,
        "left_open": plan.found.open,
        "simulated": len(plan.tried),
        "proven": plan.proven,
        "cheapest": _tried(plan.cheapest),
        "for_budget": _tried(plan.for_budget),
        "front": [_tried(one) for one in front(plan)],
        "strains": [{"name": s.name, **(_tried(s.tried) or {})} for s in plan.strains],
        "binds": binding(plan),
        "finished": plan.finished,
    }


def _tried(one: Tried | None) -> dict[str, Any] | None:
    if one is None:
        return None
    fleet = one.fleet
    pools = zip(fleet.shape.roles, fleet.shape.types, fleet.counts, strict=True)
    return {
        "fleet": fleet.name,
        "pools": [
            {
                "role": role.value,
                "machine": kind.spec.device,
                "tp": kind.spec.tp,
                "power_cap_w": kind.spec.power_cap_w,
                "count": count,
            }
            for role, kind, count in pools
        ],
        "gpus": fleet.gpus,
        "dollars_per_hour": fleet.dollars_per_hour,
        "watts": fleet.watts,
        "rate_factor": one.factor,
        **asdict(one.verdict),
        "attainment": one.verdict.attainment,
    }


def strained(strain: Weakness, slo: Slo) -> str:
    """How it went, in words."""
    verdict = strain.tried.verdict
    kept = "meets the SLO" if verdict.met else f"misses it: {_why(verdict, slo)}"
    return f"{verdict.attainment:.1%} within it, {kept}"


def _nearest(verdict: Verdict, slo: Slo) -> str:
    shares = {
        "TTFT": (verdict.ttft_s or 0.0) / slo.ttft_s,
        "TPOT": (verdict.tpot_s or 0.0) / slo.tpot_s,
    }
    name = max(shares, key=lambda key: shares[key])
    return f"nearest bound: {name}, at {shares[name]:.0%} of it at p{slo.percent:g}"


def _why(verdict: Verdict, slo: Slo) -> str:
    """Which of the two bounds is missed more, and what that means."""
    if verdict.refused > max(verdict.late_first, verdict.late_rest):
        return f"{verdict.refused} requests were refused: queues are full"
    if verdict.late_first >= verdict.late_rest:
        at = f"p{slo.percent:g} {verdict.ttft_s or 0:.2f} s"
        return f"TTFT is missed ({at}): {_waits(verdict)}"
    at = f"p{slo.percent:g} {(verdict.tpot_s or 0) * 1e3:.0f} ms"
    return f"TPOT is missed ({at}): batches are too large for the bound"


def _waits(verdict: Verdict) -> str:
    """What late first tokens waited for most."""
    shares = (verdict.placing_s, verdict.queueing_s, verdict.computing_s)
    most = shares.index(max(shares))
    seconds = f"{shares[most]:.1f} s on average"
    if most == 2:
        return f"prefill itself takes {seconds}"
    if most == 1:
        return f"requests queue {seconds} where they are prefilled"
    if max(verdict.full, default=0.0) >= FULL:
        return f"no worker has KV blocks left, and requests wait {seconds} to be placed"
    return f"every worker's queue is full, and requests wait {seconds} to be placed"


def _beats(one: Tried, other: Tried) -> bool:
    """At least as good in all three, better in one."""
    mine, its = _three(one), _three(other)
    return all(a <= b for a, b in zip(mine, its, strict=True)) and mine != its


def _three(one: Tried) -> tuple[float, float, float]:
    fleet = one.fleet
    good = one.verdict.requests - one.verdict.misses
    return fleet.dollars_per_hour, fleet.watts, -float(good)
