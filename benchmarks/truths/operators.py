"""The silicon points by measured operators (`kind = "aic"`): nothing fitted but host time."""

from collections.abc import Callable, Sequence
from functools import cache

from splitweave.sim.costs.aic import tabulated
from splitweave.sim.costs.specs import AicSpec
from splitweave.sim.costs.table import MeasuredTable

from .closed_loop import Cost
from .fitting import errors
from .silicon import Engine, Point

HOST_US = (0.0, 500.0, 1000.0, 1500.0, 2000.0, 3000.0)  # which are tried


def host_time(points: Sequence[Point], engine: Engine) -> float:
    """The host time per iteration by which TPOTs are nearest. Raises CostError."""
    return min(HOST_US, key=lambda host_us: errors(points, engine, operators(host_us)).tpot)


def operators(host_us: float) -> Callable[[Point], Cost]:
    """Which table predicts a point."""

    def cost_of(point: Point) -> Cost:
        return _table(point.engine, point.model, point.system, point.tp, point.fp8, host_us)

    return cost_of


@cache
def _table(*asked: object) -> MeasuredTable:
    engine, model, system, tp, fp8, host_us = asked
    mode = "fp8" if fp8 else "bfloat16"
    spec = AicSpec(
        kind="aic",
        engine=engine,
        model=model,
        system=system,
        tp=tp,
        gemm=mode,
        kv=mode,  # type: ignore[arg-type]
    )
    return MeasuredTable(tabulated(spec), overhead_us=float(host_us))  # type: ignore[arg-type]
