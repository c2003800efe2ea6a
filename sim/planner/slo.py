"""What a plan must reach (`--slo`) and may cost (`--budget`), as they are typed.

--slo ttft=2,tpot=0.05@p90     seconds; or 2000ms; 90 % of the requests within both
--budget '50$/h'               dollars per hour
--budget 20000W                watts, the GPUs' power limits added up (or 20kW)
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from math import floor

from ...proto.toml_file import ConfigError

SLO_SHAPE = re.compile(r"(?P<bounds>[^@]+?)(@p?(?P<percent>[0-9.]+))?", re.IGNORECASE)
BOUND = re.compile(r"(?P<name>ttft|tpot)=(?P<value>[0-9.]+)(?P<unit>ms|s)?", re.IGNORECASE)
BUDGET = re.compile(r"(?P<value>[0-9.]+)(?P<unit>\$/h|\$|kw|watts?|w)", re.IGNORECASE)
SLO_HINT = "write it as ttft=2,tpot=0.05@p90: seconds (or 50ms), and the share that must be within"
BUDGET_HINT = "write dollars per hour as '50$/h', or watts as 20000W or 20kW"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """`percent` % of the requests must have a TTFT and a TPOT within these bounds."""

    ttft_s: float
    tpot_s: float
    percent: float = 90.0

    def misses_max(self, requests: int) -> int:
        """How many of so many requests may miss it."""
        return floor(requests * (100 - self.percent) / 100 + 1e-9)


class Unit(StrEnum):
    """What fleets are compared by."""

    DOLLARS = "$/h"
    WATTS = "W"


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a fleet may cost."""

    value: float
    unit: Unit


def slo_of(text: str) -> Slo:
    """Raises ConfigError."""
    whole = SLO_SHAPE.fullmatch(text.replace(" ", ""))
    if whole is None:
        raise ConfigError(f"slo: {text!r} cannot be read; {SLO_HINT}")
    bounds: dict[str, float] = {}
    for part in whole["bounds"].split(","):
        match = BOUND.fullmatch(part)
        if match is None:
            raise ConfigError(f"slo: {part!r} cannot be read; {SLO_HINT}")
        scale = 1e-3 if (match["unit"] or "s").lower() == "ms" else 1.0
        bounds[match["name"].lower()] = _number("slo", match["value"]) * scale
    if missing := [name for name in ("ttft", "tpot") if not bounds.get(name)]:
        raise ConfigError(f"slo: {missing[0]} must be given, above 0; {SLO_HINT}")
    percent = 90.0 if whole["percent"] is None else _number("slo", whole["percent"])
    if not 0 < percent <= 100:
        raise ConfigError(f"slo: p{percent:g} is not in (0, 100]; {SLO_HINT}")
    return Slo(ttft_s=bounds["ttft"], tpot_s=bounds["tpot"], percent=percent)


def budget_of(text: str) -> Budget:
    """Raises ConfigError."""
    match = BUDGET.fullmatch(text.replace(" ", ""))
    value = 0.0 if match is None else _number("budget", match["value"])
    if match is None or value <= 0:
        raise ConfigError(f"budget: {text!r} cannot be read; {BUDGET_HINT}")
    unit = match["unit"].lower()
    if unit.startswith("$"):
        return Budget(value, Unit.DOLLARS)
    return Budget(value * 1000 if unit == "kw" else value, Unit.WATTS)


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{key}: {text!r} is no number") from None
