"""A scenario: everything a world is made from, as one TOML file.

Unknown keys are refused by name with the allowed ones; every bound is here.
"""

from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..proto.toml_file import ConfigError, build, read
from ..proto.views import Role
from .costs.build import derived_blocks
from .costs.config_json import read_decoder
from .costs.errors import CostError
from .costs.memory import Blocks
from .costs.specs import AffineSpec, Count, Hardware, ModelSpec, Positive, RooflineSpec
from .workloads.specs import WorkloadSpec

STRICT = ConfigDict(extra="forbid", strict=True)
Seconds = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoolSpec:
    """A set of like workers: `name`-0, `name`-1, …"""

    name: str = Field(min_length=1, pattern=r"^[a-z0-9-]+$")
    role: Role
    count: Positive = Field(default=1, le=1000)
    hardware: str
    blocks: Positive | None = None  # None: derived from the device's memory, and said so
    link_gbytes_per_s: float = Field(default=25.0, gt=0)
    link_latency_us: float = Field(default=10.0, ge=0)
    node_group: str | None = None  # pools of one group share nodes; None: the pool's own
    workers_per_node: Positive = 1  # worker i of a pool is on node i // this
    nvlink_gbytes_per_s: float | None = Field(default=None, gt=0)  # to workers of its node
    nvlink_latency_us: float = Field(default=5.0, ge=0)
    host_blocks: Count = 0  # blocks of host memory that evicted blocks go to; 0: none
    host_gbytes_per_s: float = Field(default=10.0, gt=0)  # between device and host memory

    def node_of(self, index: int) -> str:
        """The node of the pool's worker `index`."""
        return f"{self.node_group or self.name}/{index // self.workers_per_node}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSpec:
    """Messages between parties."""

    latency_us: float = Field(default=200.0, ge=0)
    jitter_us: float = Field(default=0.0, ge=0)
    gateways: Positive = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassSpec:
    """Shares of the requests that are of a class; the rest are standard."""

    interactive: Chance = 0.0
    batch: Chance = 0.0

    def __post_init__(self) -> None:
        if self.interactive + self.batch > 1:
            raise ValueError(f"interactive + batch ({self.interactive + self.batch:g}) exceeds 1")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SloSpec:
    """Both must hold for a request to count."""

    ttft_s: float = Field(default=2.0, gt=0)
    tpot_s: float = Field(default=0.2, gt=0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FaultSpec:
    """How much goes wrong. Each count is the most of its kind; a seed draws how many.

    Faults begin in [0, until_s); then the world is healed and all must end.
    """

    until_s: Seconds = 0.0
    mtbf_s: Seconds = 0.0  # of each worker, between failures; 0: none fails by itself
    restart_s: float = Field(default=30.0, gt=0)  # then: start-up and loading the model
    crashes: Count = 0
    freezes: Count = 0
    freeze_s_max: float = Field(default=4.0, gt=0)
    message_troubles: Count = 0
    message_loss: Chance = 0.1
    message_duplicate: Chance = 0.1
    message_delay_s: Seconds = 0.3
    cuts: Count = 0
    slow_links: Count = 0
    copy_troubles: Count = 0
    stuck_transports: Count = 0
    host_troubles: Count = 0  # copies to host memory and back fail for a while
    controller_restarts: Count = 0
    gateway_crashes: Count = 0
    migrations: Count = 0
    migrate_again_s: Seconds = 0.0  # an operator who finds no request to move looks again; 0: not
    drains: Count = 0
    role_switches: Count = 0
    cancels: Chance = 0.0  # share of the requests whose client hangs up
    stage_faults: Count = 0  # a side of a move is hurt as it comes to a stage
    late_letters: Count = 0  # letters of one kind come, or come again, at a stage of their move
    partitions: Count = 0  # one party does not hear another, which may hear it
    kind_losses: Count = 0  # messages of one type only are lost, doubled, late
    full_memories: Count = 0  # nearly all free blocks of a worker are taken for a while
    told_late_s: Seconds = 0.0  # a source hears up to this late that a copy has left
    ask_again_s: float = Field(default=0.3, gt=0)  # a client whose gateway failed waits this long
    deadlines: Chance = 0.0  # share of the requests that have one
    deadline_s_max: float = Field(default=3.0, gt=0)
    clock_offset_s: Seconds = 0.0  # each party's clock is ahead by up to this
    clock_drift: float = Field(default=0.0, ge=0, le=0.2)  # and fast or slow by this share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LimitsSpec:
    """Overrides of the cores' own limits, by their own names."""

    worker: dict[str, int | float] = field(default_factory=dict)
    cluster: dict[str, int | float] = field(default_factory=dict)
    gateway: dict[str, int | float] = field(default_factory=dict)
    policy: dict[str, int | float] = field(default_factory=dict)  # of the router
    link_bytes_per_s: float = Field(default=1e9, gt=0)  # what the router expects of a link


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scenario:
    """A whole file."""

    seed: int = Field(default=1, ge=0)
    checked: bool = False  # follow the content of every KV slot, and all invariants
    block_tokens: Positive = 16
    stop_chance: float = Field(default=0.0, ge=0, le=0.5)  # per token, checked worlds only
    model: ModelSpec = field(default_factory=ModelSpec)
    hardware: dict[str, Hardware] = Field(min_length=1)
    pools: list[PoolSpec] = Field(min_length=1)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    workload: WorkloadSpec
    classes: ClassSpec = field(default_factory=ClassSpec)
    slo: SloSpec = field(default_factory=SloSpec)
    faults: FaultSpec = field(default_factory=FaultSpec)
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    fast_forward: bool = True  # decode iterations that decide nothing in one jump
    end_within_s: Seconds = 600.0  # after the last arrival and the heal, all must have ended

    def __post_init__(self) -> None:
        names = [pool.name for pool in self.pools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"pools: the name {twice[0]} is used twice")
        for pool in self.pools:
            if pool.hardware not in self.hardware:
                known = ", ".join(sorted(self.hardware))
                raise ValueError(f"pools: {pool.name}: no hardware {pool.hardware!r} ({known})")
        for index in range(len(self.pools)):
            self._blocks(index)

    @property
    def calm(self) -> bool:
        """Nothing but the workload happens, and messages do not overtake each other."""
        return self.faults == FaultSpec() and not self.network.jitter_us

    def blocks_of(self, pool: PoolSpec) -> Blocks:
        """KV blocks of each worker of the pool, and where the number is from."""
        return self._blocks(self.pools.index(pool))

    def _blocks(self, index: int) -> Blocks:
        pool = self.pools[index]
        if pool.blocks is not None:
            return Blocks(pool.blocks, "given")
        try:
            blocks = derived_blocks(self.hardware[pool.hardware], self.model, self.block_tokens)
        except CostError as error:
            raise ValueError(f"pools[{index}].blocks: {error}") from None
        if blocks is None:
            raise ValueError(
                f"missing key pools[{index}].blocks: hardware {pool.hardware!r} names no device "
                "to derive it from"
            )
        return blocks


def load_scenario(path: Path) -> Scenario:
    """The scenario at `path`; paths in it are relative to its folder. Raises ConfigError."""
    return build(Scenario, scenario_tables(path), str(path))


def scenario_tables(path: Path) -> dict[str, Any]:
    """The tables of the file at `path`, with the paths in it absolute. Raises ConfigError."""
    tables = read(path)
    hardware = tables.get("hardware")
    workload = tables.get("workload")
    parts = workload.get("parts") if isinstance(workload, dict) else None
    named = [workload, *(parts if isinstance(parts, list) else ())]
    named += hardware.values() if isinstance(hardware, dict) else ()
    for table in named:
        for key in ("path", "catalogue"):
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = _absolute(path, table[key])
    model = tables.get("model")
    if isinstance(model, dict) and isinstance(model.get("config"), str):
        config = _absolute(path, model.pop("config"))
        tables["model"] = _from_config(Path(config)) | model
    return tables


def _absolute(origin: Path, path: str) -> str:
    return str((origin.parent / Path(path).expanduser()).resolve())


def _from_config(path: Path) -> dict[str, Any]:
    """The keys of `[model]` that a config.json says. Raises CostError."""
    said = asdict(read_decoder(path))
    return {"dtype_bytes": round(said.pop("other_bytes")), **said}


__all__ = ["AffineSpec", "ConfigError", "ModelSpec", "RooflineSpec", "Scenario", "load_scenario"]
