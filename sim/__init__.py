"""The other world: the cores of the live system on virtual time.

`simulate(scenario)` runs one scenario; `load_scenario(path)` reads one. Both
load lazily: importing this package costs nothing and needs neither Ray nor torch.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "ConfigError": "scenario",
    "InvariantBroken": "errors",
    "Metrics": "metrics",
    "Outcome": "run",
    "Scenario": "scenario",
    "SimulationError": "errors",
    "TraceError": "errors",
    "Transcript": "transcript",
    "load_scenario": "scenario",
    "measure": "metrics",
    "simulate": "run",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
