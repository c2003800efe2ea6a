"""What can go wrong in a simulation.

SimulationError
├── InvariantBroken   a core or the world broke a rule; a bug, shown by its seed
└── TraceError        a workload file that cannot be read (file, line, reason)
"""


class SimulationError(Exception):
    """Base of all errors of the simulator."""


class InvariantBroken(SimulationError):
    """A rule that must always hold did not."""


class TraceError(SimulationError, ValueError):
    """A trace file that cannot be used. Its text is meant for the operator."""
