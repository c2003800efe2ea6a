"""How a process's use of memory and descriptors moves over a run.

Only what came after a process's own warm-up counts; a process that was
restarted goes on with its role's curve after a warm-up of its own.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from splitweave.benchmarks.survival.journal import Line

DRIFT_MAX = 0.03
# Connections to peers come and go with their lives: so many descriptors are no growth.
FILES_MAX = 2


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One role over the run. Drifts are shares of the second quarter's median."""

    role: str
    ours: bool
    samples: int
    lives: int
    rss_mib: float
    rss_drift: float | None
    uss_mib: float
    uss_drift: float | None
    descriptors: tuple[float, float] | None  # second quarter, last quarter
    threads: tuple[float, float] | None

    @property
    def flat(self) -> bool:
        """Memory within ±3 %, and no more descriptors. True while there is too little to tell."""
        drifts = [drift for drift in (self.rss_drift, self.uss_drift) if drift is not None]
        grown = (
            self.descriptors is not None and self.descriptors[1] > self.descriptors[0] + FILES_MAX
        )
        return all(abs(drift) <= DRIFT_MAX for drift in drifts) and not grown


def curves(lines: Sequence[Line], warm_up_s: float) -> list[Curve]:
    """Every role's curve, ours first."""
    by_role: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "sample" and line["role"] != "starting" and line["age_s"] >= warm_up_s:
            by_role[line["role"]].append(line)
    by_role |= _whole_lives(by_role)
    found = [_curve(role, samples) for role, samples in by_role.items()]
    return sorted(found, key=lambda curve: (not curve.ours, curve.role))


def _whole_lives(by_role: dict[str, list[Line]]) -> dict[str, list[Line]]:
    """Of roles with several processes: those that were never restarted, by name."""
    found: dict[str, list[Line]] = {}
    for role, samples in by_role.items():
        lives: dict[str, set[int]] = defaultdict(set)
        for line in samples:
            lives[line["name"]].add(line["pid"])
        for name, pids in lives.items():
            if name != role and len(pids) == 1 and samples[0]["ours"]:
                found[name] = [line for line in samples if line["name"] == name]
    return found


def _curve(role: str, samples: list[Line]) -> Curve:
    second, last = _quarters(samples)
    return Curve(
        role=role,
        ours=samples[0]["ours"],
        samples=len(samples),
        lives=len({(line["name"], line["pid"]) for line in samples}),
        rss_mib=_median(last or samples, "rss_mib"),
        rss_drift=_drift(second, last, "rss_mib"),
        uss_mib=_median(last or samples, "uss_mib"),
        uss_drift=_drift(second, last, "uss_mib"),
        descriptors=_pair(second, last, "descriptors"),
        threads=_pair(second, last, "threads"),
    )


def _quarters(samples: list[Line]) -> tuple[list[Line], list[Line]]:
    """The second and the last quarter of the time that the role was watched."""
    first_s, last_s = samples[0]["at_s"], samples[-1]["at_s"]
    quarter_s = (last_s - first_s) / 4
    second = [s for s in samples if first_s + quarter_s <= s["at_s"] < first_s + 2 * quarter_s]
    return second, [s for s in samples if s["at_s"] >= last_s - quarter_s]


def _median(samples: list[Line], key: str) -> float:
    return statistics.median(sample[key] for sample in samples)


def _pair(second: list[Line], last: list[Line], key: str) -> tuple[float, float] | None:
    return (_median(second, key), _median(last, key)) if second and last else None


def _drift(second: list[Line], last: list[Line], key: str) -> float | None:
    pair = _pair(second, last, key)
    return None if pair is None or not pair[0] else pair[1] / pair[0] - 1.0
