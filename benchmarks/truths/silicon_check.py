"""The silicon points, engine by engine: fitted half, held-back half, and what fits nowhere."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from splitweave.sim.costs.efficiency import Efficiency

from .closed_loop import Cost
from .fitting import choices, errors, settle
from .operators import host_time, operators
from .silicon import SYSTEMS, Engine, Point, halves, read_points, within_reach
from .split_point import predict_split, read_split_points

# Found by `fidelity.py --only silicon --fit` on the fitted halves.
ENGINES = {
    "trtllm": Engine(
        efficiency=Efficiency(gemm=0.5, attention=0.443, weights=0.684, kv=0.515, link=0.4,
                              layer_us=22.5),
        batched_tokens_max=4096, turn_us=5060, front_us=667, front_token_us=0.407,
        fp8_kv_bytes=1.0,
    ),
    "vllm": Engine(
        efficiency=Efficiency(gemm=0.789, attention=1.0, weights=0.65, kv=0.6, link=0.38,
                              layer_us=22.5, host_us=816),
        batched_tokens_max=2048, turn_us=4134, front_us=2756, front_token_us=0.786,
        fp8_kv_bytes=1.0,
    ),
}  # fmt: skip


def check_silicon(
    path: Path, console: Console, *, anew: bool, operators_too: bool
) -> dict[str, Any]:
    """Prints the table, and what each engine's factors are. `anew`: finds them again."""
    points, beyond = within_reach(read_points(path))
    drawn = Table(
        title="Silicon points: median absolute error of the mean TTFT and TPOT of a closed loop",
        caption="Halves are chosen by the hash of (model, system, TP, prompt length). Asked for: "
        "TTFT 20 %, TPOT 10 %.",
    )
    for name in ("engine", "GPU", "mode", "half", "points", "TTFT", "TPOT"):
        numeric = name in ("points", "TTFT", "TPOT")
        drawn.add_column(name, justify="right" if numeric else "left")
    found: dict[str, Any] = {}
    for name, known in ENGINES.items():
        fitted, held = halves([point for point in points if point.engine == name])
        engine = settle(fitted, choices()) if anew else known
        parts = {"fitted": fitted, "held back": held, "cached?": _of(beyond, name)}
        for half, chosen in parts.items():
            _rows(drawn, found, engine, (name, half, chosen))
        if operators_too:
            host_us = host_time(fitted, engine)
            for half, chosen in (("fitted", fitted), ("held back", held)):
                of = (f"{name}, operators + {host_us:g} us", half, chosen)
                _rows(drawn, found, engine, of, operators(host_us))
        found[name] = asdict(engine)
        console.print(f"{name}: {engine}\n", markup=False, highlight=False)
    _split(drawn, found, path)
    console.print(drawn)
    if beyond:
        most = max(point.peak_share for point in beyond)
        console.print(
            f"cached?: {len(beyond)} points of a model that would have reached up to {most:.0%} of "
            "the peak, prompts and answers together, had every prompt been computed; all others "
            f"stay below {max(point.peak_share for point in points):.0%}. Not fitted.",
            highlight=False,
        )
    return found


def _of(points: Sequence[Point], engine: str) -> list[Point]:
    return [point for point in points if point.engine == engine]


def _rows(
    drawn: Table,
    found: dict[str, Any],
    engine: Engine,
    which: tuple[str, str, list[Point]],
    cost_of: Callable[[Point], Cost] | None = None,
) -> None:
    name, half, chosen = which
    for system, device in SYSTEMS.items():
        here = [point for point in chosen if point.system == system]
        if here:
            off = errors(here, engine, cost_of)
            found[f"{name}, {device}, aggregated, {half}"] = asdict(off)
            cells = (str(off.points), f"{off.ttft:.1%}", f"{off.tpot:.1%}")
            drawn.add_row(name, device, "aggregated", half, *cells)


def _split(drawn: Table, found: dict[str, Any], path: Path) -> None:
    for point in read_split_points(path):
        said = predict_split(point, ENGINES[point.engine])
        ttft, tpot = (
            abs(a / b - 1) for a, b in zip(said, (point.ttft_s, point.tpot_s), strict=True)
        )
        device = SYSTEMS[point.system]
        found[f"{point.engine}, {device}, disaggregated, held back"] = {"ttft": ttft, "tpot": tpot}
        cells = ("1", f"{ttft:.1%}", f"{tpot:.1%}")
        drawn.add_row(point.engine, device, "disaggregated", "held back", *cells)
