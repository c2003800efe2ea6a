"""The other world: the cores of the live system on virtual time.

`simulate(scenario)` runs one and returns typed results; `docs/simulator.md` shows how.
All loads lazily: importing this package costs nothing and needs neither Ray nor torch.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "ConfigError": "scenario",
    "InvariantBroken": "errors",
    "Metrics": "metrics",
    "Outcome": "run",
    "Results": "results.results",
    "ResultsError": "results.results",
    "Scenario": "scenario",
    "SimulationError": "errors",
    "TraceError": "errors",
    "Transcript": "transcript",
    "load_scenario": "scenario",
    "comparison": "results.compare",
    "measure": "metrics",
    "read_results": "results.results",
    "simulate": "results.api",
    "write": "results.files",
    "write_all": "results.files",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
