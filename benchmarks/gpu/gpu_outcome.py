"""What a section found: figures and claims, as a table and as JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SEEN_MAX = 160  # of what was seen, characters


class State(StrEnum):
    """How a section ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"
    TIMED_OUT = "TIMED OUT"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something that must hold, and whether it did; `seen` is what was found."""

    name: str
    holds: bool
    seen: str = ""


@dataclass
class Findings:
    """What a section adds to while it runs; printed at its end."""

    figures: list[Figure] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    def figure(self, name: str, value: float, unit: str) -> None:
        self.figures.append(Figure(name=name, value=value, unit=unit))

    def claim(self, name: str, holds: bool, seen: object = "") -> None:
        self.claims.append(Claim(name=name, holds=bool(holds), seen=str(seen)[:SEEN_MAX]))

    def dump(self) -> str:
        return json.dumps(asdict(self))


class Skipped(Exception):
    """The section cannot run here; says why."""


@dataclass(kw_only=True)
class Outcome:
    """One section's end."""

    section: str
    state: State
    seconds: float
    reason: str = ""
    findings: Findings = field(default_factory=Findings)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}


def read_findings(line: str) -> Findings:
    """What `dump` wrote."""
    found = json.loads(line)
    return Findings(
        figures=[Figure(**each) for each in found["figures"]],
        claims=[Claim(**each) for each in found["claims"]],
    )


def judge(findings: Findings) -> tuple[State, str]:
    """Passed if every claim holds; else the first that does not."""
    for claim in findings.claims:
        if not claim.holds:
            return State.FAILED, f"{claim.name}: {claim.seen}" if claim.seen else claim.name
    return State.PASSED, ""


def table(outcomes: Iterable[Outcome]) -> str:
    """One line a section, and under it one a figure and a claim."""
    lines: list[str] = []
    for outcome in outcomes:
        reason = f"  {outcome.reason}" if outcome.reason else ""
        lines.append(
            f"{outcome.section:<16}{outcome.state.value:<10}{outcome.seconds:6.1f} s{reason}"
        )
        lines += [
            f"    {figure.name:<58}{_number(figure.value):>10} {figure.unit}"
            for figure in outcome.findings.figures
        ]
        lines += [
            f"    [{'ok' if claim.holds else 'NO'}] {claim.name}"
            + (f"  ({claim.seen})" if claim.seen else "")
            for claim in outcome.findings.claims
        ]
    return "\n".join(lines)


def _number(value: float) -> str:
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
