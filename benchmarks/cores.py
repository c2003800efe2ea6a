"""Events per second of each core, and requests per second of the simulator.

The simulator runs Poisson workloads on 1P2D and on 8P32D; every core's events of
the first are kept and stepped again through fresh cores, alone, for its events/s.
Times are this one thread's CPU seconds, so a busy machine does not blur them.

    python benchmarks/cores.py [--requests N] [--json PATH]
"""

import argparse
import gc
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.metrics import measure
from splitweave.sim.run import simulate
from splitweave.sim.scenario import Scenario, load_scenario
from splitweave.sim.workloads.lengths import Lognormal
from splitweave.sim.workloads.specs import PoissonSpec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "two_pools.toml"
LONG = Lognormal(kind="lognormal", median=129, p90=424, max=1000)  # Azure's conversations
SHORT = Lognormal(kind="lognormal", median=13, p90=55, max=500)  # Azure's code completions


@dataclass(frozen=True)
class Shape:
    """A cluster and a load of about half of what its pools can take."""

    prefill: int
    decode: int
    rate_per_s: float
    output: Lognormal

    @property
    def name(self) -> str:
        answers = "short" if self.output is SHORT else "long"
        return f"{self.prefill}P{self.decode}D {answers}"


SHAPES = (
    Shape(1, 2, 8.0, LONG),
    Shape(1, 2, 8.0, SHORT),
    Shape(8, 32, 80.0, LONG),
    Shape(8, 32, 80.0, SHORT),
)


@dataclass(frozen=True)
class CoreRate:
    """How fast one kind of core is."""

    core: str
    cores: int
    events: int
    events_per_s: float
    us_per_event: float


@dataclass(frozen=True)
class SimulatorRate:
    """How fast the simulator is on one cluster."""

    cluster: str
    requests: int
    output_tokens: int
    events: int
    cpu_s: float
    requests_per_s: float
    output_tokens_per_s: float
    virtual_s: float


class Tape:
    """A core that keeps what it is asked."""

    def __init__(self, make: Any) -> None:
        self.make = make
        self._core = make()
        self.events: list[tuple[Any, int]] = []

    def step(self, event: Any, now_ns: int) -> Any:
        self.events.append((event, now_ns))
        return self._core.step(event, now_ns)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class TapingBuilder(CoreBuilder):
    """Builds cores that keep what they are asked."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.tapes: dict[str, list[Tape]] = {"ClusterCore": [], "GatewayCore": [], "WorkerCore": []}

    def cluster(self) -> Any:
        return self._tape("ClusterCore", super().cluster)

    def gateway(self, gateway_id: Any) -> Any:
        make = super().gateway
        return self._tape("GatewayCore", lambda: make(gateway_id))

    def worker(self, info: Any) -> Any:
        make = super().worker
        return self._tape("WorkerCore", lambda: make(info))

    def _tape(self, kind: str, make: Any) -> Tape:
        self.tapes[kind].append(Tape(make))
        return self.tapes[kind][-1]


def scenario_of(shape: Shape, requests: int) -> Scenario:
    """The example's model, hardware and prompts on another cluster."""
    example = load_scenario(EXAMPLE)
    assert isinstance(example.workload, PoissonSpec)
    counts = {"prefill": shape.prefill, "decode": shape.decode}
    workload = replace(
        example.workload, rate_per_s=shape.rate_per_s, requests=requests, output=shape.output
    )
    pools = [replace(pool, count=counts[pool.name]) for pool in example.pools]
    return replace(example, pools=pools, workload=workload)


def time_simulator(shape: Shape, requests: int) -> SimulatorRate:
    """One run in fast mode, building everything included."""
    scenario = scenario_of(shape, requests)
    began = time.process_time()
    outcome = simulate(scenario)
    cpu_s = time.process_time() - began
    metrics = measure(outcome)
    return SimulatorRate(
        cluster=shape.name,
        requests=requests,
        output_tokens=metrics.output_tokens,
        events=outcome.events,
        cpu_s=cpu_s,
        requests_per_s=requests / cpu_s,
        output_tokens_per_s=metrics.output_tokens / cpu_s,
        virtual_s=metrics.virtual_s,
    )


def time_cores(requests: int) -> list[CoreRate]:
    """Every core of one 1P2D run, stepped again alone."""
    scenario = scenario_of(SHAPES[0], requests)
    builder = TapingBuilder(scenario)
    simulate(scenario, builder=builder)
    return [_time_tapes(kind, tapes) for kind, tapes in builder.tapes.items()]


def _time_tapes(kind: str, tapes: list[Tape]) -> CoreRate:
    spent_s, events = 0.0, 0
    for tape in tapes:
        core = tape.make()
        gc.disable()
        began = time.process_time()
        for event, now_ns in tape.events:
            core.step(event, now_ns)
        spent_s += time.process_time() - began
        gc.enable()
        events += len(tape.events)
    return CoreRate(kind, len(tapes), events, events / spent_s, spent_s / events * 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cores = time_cores(given.requests)
    worlds = [time_simulator(shape, given.requests) for shape in SHAPES]
    _print(cores, worlds)
    if given.json is not None:
        figures = {"cores": [vars(c) for c in cores], "simulator": [vars(w) for w in worlds]}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def _print(cores: list[CoreRate], worlds: list[SimulatorRate]) -> None:
    table = Table("core", "cores", "events", "events/s", "µs/event", title="Cores, 1P2D replayed")
    for core in cores:
        table.add_row(
            core.core, str(core.cores), str(core.events), f"{core.events_per_s:,.0f}",
            f"{core.us_per_event:.1f}",
        )  # fmt: skip
    Console().print(table)
    table = Table(
        "cluster, answers", "events", "CPU s", "requests/s", "tokens/s", "virtual s",
        title=f"Simulator, fast mode, {worlds[0].requests} requests",
    )  # fmt: skip
    for world in worlds:
        table.add_row(
            world.cluster, str(world.events), f"{world.cpu_s:.2f}", f"{world.requests_per_s:,.0f}",
            f"{world.output_tokens_per_s:,.0f}", f"{world.virtual_s:.0f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
