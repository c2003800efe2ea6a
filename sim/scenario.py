"""A scenario: everything a world is made from, as one TOML file.

Unknown keys are refused by name with the allowed ones; every bound is here.
"""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..proto.toml_file import ConfigError, build, read
from ..proto.views import Role
from .cost import ModelShape
from .lengths import Fixed, Length

STRICT = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelSpec:
    """The decoder that all pools run."""

    layers: Positive = 32
    hidden: Positive = 4096
    heads: Positive = 32
    kv_heads: Positive = 8
    head_dim: Positive = 128
    ffn: Positive = 14336
    vocab: Positive = 128256
    dtype_bytes: Positive = 2
    context_tokens_max: Positive = 131072

    def shape(self) -> ModelShape:
        return ModelShape(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.head_dim, ffn=self.ffn, vocab=self.vocab, dtype_bytes=self.dtype_bytes,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RooflineSpec:
    """A device by its peaks and by the share of them that is reached."""

    kind: Literal["roofline"]
    tflops_per_s: float = Field(gt=0)
    gbytes_per_s: float = Field(gt=0)
    flops_efficiency: float = Field(default=0.6, gt=0, le=1)
    bytes_efficiency: float = Field(default=0.8, gt=0, le=1)
    overhead_us: float = Field(default=1000.0, ge=0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AffineSpec:
    """iteration_us + tokens x token_us, whatever the model."""

    kind: Literal["affine"]
    iteration_us: float = Field(ge=1)
    token_us: float = Field(ge=0)


Hardware = Annotated[RooflineSpec | AffineSpec, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoolSpec:
    """A set of like workers: `name`-0, `name`-1, …"""

    name: str = Field(min_length=1, pattern=r"^[a-z0-9-]+$")
    role: Role
    count: Positive = Field(default=1, le=1000)
    hardware: str
    blocks: Positive
    link_gbytes_per_s: float = Field(default=25.0, gt=0)
    link_latency_us: float = Field(default=10.0, ge=0)
    host_blocks: Count = 0  # blocks of host memory that evicted blocks go to; 0: none
    host_gbytes_per_s: float = Field(default=10.0, gt=0)  # between device and host memory


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSpec:
    """Messages between parties."""

    latency_us: float = Field(default=200.0, ge=0)
    jitter_us: float = Field(default=0.0, ge=0)
    gateways: Positive = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoissonSpec:
    """Exponential gaps; lengths drawn one by one."""

    kind: Literal["poisson"]
    rate_per_s: float = Field(gt=0)
    requests: Positive
    prompt: Length = field(default_factory=lambda: Fixed(kind="fixed", tokens=512))
    output: Length = field(default_factory=lambda: Fixed(kind="fixed", tokens=128))
    shared_prefix_tokens: Count = 0
    prefix_groups: Count = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TraceSpec:
    """A trace file; `path` is relative to the scenario's own folder."""

    kind: Literal["trace"]
    format: Literal["azure", "mooncake"]
    path: str = Field(min_length=1)
    speedup: float = Field(default=1.0, gt=0)
    requests: Count = 0  # 0: all
    bucket_s: Seconds = 0.0  # > 0: stamps fall in buckets this wide; spread them


WorkloadSpec = Annotated[PoissonSpec | TraceSpec, Field(discriminator="kind")]


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
    controller_restarts: Count = 0
    gateway_crashes: Count = 0
    migrations: Count = 0
    drains: Count = 0
    role_switches: Count = 0
    cancels: Chance = 0.0  # share of the requests whose client hangs up
    stage_faults: Count = 0  # a side of a move is hurt as it comes to a stage
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


def load_scenario(path: Path) -> Scenario:
    """The scenario at `path`, its trace path made absolute. Raises ConfigError."""
    tables = read(path)
    workload = tables.get("workload")
    if isinstance(workload, dict) and isinstance(workload.get("path"), str):
        workload["path"] = str((path.parent / Path(workload["path"]).expanduser()).resolve())
    return build(Scenario, tables, str(path))


__all__ = ["ConfigError", "Scenario", "load_scenario"]
