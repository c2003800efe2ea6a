"""The cluster's TOML config: every key, its unit, its bound, its default.

`docs/configuration.md` is written from these definitions
(`python -m splitweave.cluster.live.config_page`).
"""

import itertools
from dataclasses import field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ...proto.toml_file import ConfigError, build, read
from ...proto.views import Role

# Strict: no "8" for 8, no 1 for true. A float key takes an integer.
STRICT = ConfigDict(extra="forbid", strict=True)
Positive = Annotated[int, Field(ge=1)]
SECONDS_MAX = 1_000_000  # eleven days; infinity is none
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX)]
PORT_MAX = 65535
SHARE_MAX = 1_000_000  # of a Ray resource
Share = Annotated[float, Field(ge=0, le=SHARE_MAX)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """Which model is served."""

    path: str = Field(
        description="GGUF file or Hugging Face directory. `demo` is SmolLM2-135M-Instruct "
        "from the `demo` extra. Relative to the config file."
    )
    name: str = Field(
        default="", description="Name clients use; default: the file's stem, or the folder's name."
    )
    context_tokens_max: int = Field(
        default=0, ge=0, description="Longest prompt + output, tokens; 0: the model's own limit."
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoolConfig:
    """A set of like workers."""

    name: str = Field(
        min_length=1,
        max_length=40,
        pattern=r"^[a-z0-9-]+$",
        description="Opens the worker ids: `decode` gives decode-0, decode-1, …",
    )
    role: Role = Field(description="`prefill`, `decode` or `mixed`.")
    count: Positive = Field(default=1, le=1000, description="Workers in the pool.")
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda)$", description="`cpu` or `cuda`.")
    accelerator: str = Field(
        default="", description="Ray accelerator type the workers must run on, e.g. `H100`."
    )
    cpus: float = Field(default=1.0, ge=0, le=SHARE_MAX, description="Ray CPUs per worker.")
    gpus: float = Field(default=0.0, ge=0, le=SHARE_MAX, description="Ray GPUs per worker.")
    resources: dict[str, Share] = Field(
        default_factory=dict, description="Further Ray resources per worker, by name."
    )
    threads: Positive = Field(default=1, le=256, description="CPU threads of the engine.")
    blocks: Positive = Field(
        default=512,
        le=10_000_000,
        description="KV blocks per worker. Memory: blocks x block_tokens x bytes per token.",
    )
    host_blocks: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="KV blocks per worker in host memory (pinned with `cuda`), beside `blocks`: "
        "what the prefix cache evicts goes there and comes back on a hit, and a preempted "
        "request is swapped there; 0: none.",
    )

    def __post_init__(self) -> None:
        for name in ("CPU", "GPU"):
            if name in self.resources:
                raise ValueError(f"resources.{name}: use {name.lower()}s")
        for key, share in {"cpus": self.cpus, "gpus": self.gpus, **self.resources}.items():
            if round(share, 4) != share:
                raise ValueError(f"{key} ({share:g}) is finer than Ray counts, 0.0001")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BudgetConfig:
    """Limits of one worker's iterations and queues."""

    block_tokens: Positive = Field(
        default=16, le=1024, description="Tokens per KV block; prefixes are shared in whole blocks."
    )
    batched_tokens_max: Positive = Field(
        default=512,
        description="Token budget of one iteration. Higher: better prefill "
        "throughput, longer gaps between a running stream's tokens.",
    )
    prefill_chunk_tokens: Positive = Field(
        default=128, description="Longest prefill chunk; at most batched_tokens_max."
    )
    sequences_max: Positive = Field(
        default=64, description="Requests in one iteration; at most batched_tokens_max."
    )
    queue_len_max: Positive = Field(default=256, description="Waiting requests per worker.")
    copy_percent: Positive = Field(
        default=5,
        le=100,
        description="Share of the time, percent, that KV copies of migrations may be under way "
        "while a worker decodes; 100: no limit. Higher: migrations end sooner, decoding beside "
        "them slows down. A draining worker takes 25, or this if it is more.",
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SloConfig:
    """What the router aims for."""

    ttft_s: Seconds = Field(default=2.0, description="Time to first token, seconds.")
    tpot_s: Seconds = Field(default=0.2, description="Time per output token, seconds.")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GatewayConfig:
    """The gRPC fronts. A client that is given all their addresses outlives the loss of any."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    count: Positive = Field(
        default=1, le=64, description="Gateways. With two or more a stream outlives any of them."
    )
    port: int = Field(
        default=7070,
        ge=0,
        le=65535,
        description="Port of the first; the others listen at the next ones. 0 picks free ones.",
    )
    streams_max: Positive = Field(default=1024, description="Open streams per gateway.")
    stall_s: float = Field(
        default=10.0,
        gt=0.2,
        le=SECONDS_MAX,
        description="Seconds without progress before the gateway asks again; above 0.2.",
    )
    resume_grace_s: Seconds = Field(
        default=10.0,
        description="How long the requests of a dead gateway run on for clients that resume.",
    )
    resources: dict[str, Share] = Field(
        default_factory=dict,
        description="Ray resources per gateway, by name: keeps them on nodes that have them.",
    )

    def __post_init__(self) -> None:
        for name in ("CPU", "GPU"):
            if name in self.resources:
                raise ValueError(f"resources.{name}: a gateway takes none")
        last = self.port + self.count - 1
        if self.port and last > PORT_MAX:
            raise ValueError(f"port + count - 1 ({last}) exceeds {PORT_MAX}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ControllerConfig:
    """Admission and failure detection."""

    queue_len_max: Positive = Field(
        default=512,
        lt=100_000,
        description="Requests of one class waiting for a worker; beyond: RESOURCE_EXHAUSTED.",
    )
    queue_age_s: Seconds = Field(
        default=20.0,
        description="Waiting that lifts a request by one class (batch, standard, interactive).",
    )
    queue_s_max: Seconds = Field(
        default=120.0, description="Longest wait for a worker, seconds; beyond: RESOURCE_EXHAUSTED."
    )
    heartbeat_s: Seconds = Field(default=0.2, description="Period of a worker's views, seconds.")
    suspect_after_s: Seconds = Field(
        default=1.0,
        description="Silence before a worker gets no new requests; above heartbeat_s.",
    )
    dead_after_s: float = Field(
        default=1.8,
        gt=0.1,
        le=SECONDS_MAX,
        description="Silence before a worker is given up and its requests move on; above "
        "suspect_after_s.",
    )
    load_s_max: Seconds = Field(
        default=900.0,
        description="Longest time a worker may take to load its model and register; then its "
        "process is ended and started again.",
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransportConfig:
    """How KV moves from worker to worker."""

    same_host: str = Field(
        default="auto",
        pattern="^(auto|network)$",
        description="Between CPU workers of one machine: `auto` through memory that both map, "
        "where they can; `network` through gloo, as between machines.",
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NcclConfig:
    """How workers with `device = "cuda"` move KV."""

    pairs_max: int = Field(
        default=16,
        ge=2,
        le=1024,
        description="Pairs of one worker with others, half of them to send; each takes 50-100 MB "
        "of GPU memory. An idle one makes room for the next.",
    )
    ctas_max: Positive = Field(
        default=4,
        le=32,
        description="Thread blocks of one pair; what copies take, the model's kernels do not have.",
    )
    abort_stuck_s: Seconds = Field(
        default=10.0,
        description="A pair that cannot be given up in that time, seconds, has the worker start "
        "again.",
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RayConfig:
    """Where the actors run."""

    address: str = Field(
        default="auto",
        description="`auto`: the cluster this job runs in (RAY_ADDRESS), or one running on this "
        "machine, else an embedded one. `local`: always an embedded one. Or an address.",
    )
    namespace: str = Field(
        default="splitweave", min_length=1, description="One cluster per namespace."
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClusterConfig:
    """A whole config file."""

    model: ModelConfig
    pools: list[PoolConfig] = Field(min_length=1)
    budgets: BudgetConfig = field(default_factory=BudgetConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    nccl: NcclConfig = field(default_factory=NcclConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    record: str = Field(
        default="",
        description="Folder for recordings of every core's events, relative to the config file; "
        "empty: none.",
    )

    def __post_init__(self) -> None:
        _check_pools(self.pools)
        for key in ("prefill_chunk_tokens", "sequences_max"):
            value, limit = getattr(self.budgets, key), self.budgets.batched_tokens_max
            if value > limit:
                raise ValueError(
                    f"budgets.{key} ({value}) exceeds budgets.batched_tokens_max ({limit})"
                )
        silences = ("heartbeat_s", "suspect_after_s", "dead_after_s")
        for key, above in itertools.pairwise(silences):
            value, limit = getattr(self.controller, key), getattr(self.controller, above)
            if value >= limit:
                raise ValueError(
                    f"controller.{key} ({value}) must be below controller.{above} ({limit})"
                )

    @property
    def workers(self) -> int:
        return sum(pool.count for pool in self.pools)


def _check_pools(pools: list[PoolConfig]) -> None:
    names = [pool.name for pool in pools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"pools: the name {twice[0]} is used twice")
    roles = {pool.role for pool in pools}
    if Role.MIXED not in roles and roles != {Role.PREFILL, Role.DECODE}:
        missing = ({Role.PREFILL, Role.DECODE} - roles).pop()
        raise ValueError(f"pools: no pool with role {missing} (or mixed)")


def load_config(path: Path) -> ClusterConfig:
    """The config at `path`, the paths in it made absolute. Raises ConfigError."""
    tables = read(path)
    model = tables.get("model")
    if isinstance(model, dict) and isinstance(model.get("path"), str) and model["path"] != "demo":
        model["path"] = _beside(path, model["path"])
    if isinstance(tables.get("record"), str) and tables["record"]:
        tables["record"] = _beside(path, tables["record"])
    return build(ClusterConfig, tables, str(path))


def _beside(config: Path, given: str) -> str:
    return str((config.parent / Path(given).expanduser()).resolve())


__all__ = ["ClusterConfig", "ConfigError", "load_config"]
