"""How a scenario names a model and its hardware: `[model]` and `[hardware.NAME]`."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from .decoder import Decoder
from .efficiency import Efficiency
from .plain import ModelShape

STRICT = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Bytes = Annotated[float, Field(gt=0, le=8)]
Watts = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelSpec:
    """The decoder that all pools run. `config` names a config.json that the rest is read from."""

    layers: Positive = 32
    hidden: Positive = 4096
    heads: Positive = 32
    kv_heads: Positive = 8
    head_dim: Positive = 128
    ffn: Positive = 14336
    vocab: Positive = 128256
    experts: Count = 0
    experts_per_token: Count = 0
    expert_ffn: Count = 0
    shared_ffn: Count = 0
    dense_layers: Count = 0
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    dtype_bytes: Positive = 2
    linear_bytes: Bytes | None = None  # of one weight of a layer's matrices; None: dtype_bytes
    kv_bytes: Bytes | None = None  # of one element of the KV cache; None: dtype_bytes
    context_tokens_max: Positive = 131072

    def __post_init__(self) -> None:
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            chosen = f"experts_per_token ({self.experts_per_token})"
            raise ValueError(f"{chosen} is not in 1..experts ({self.experts})")

    def shape(self) -> ModelShape:
        """What the plain roofline knows of it."""
        return ModelShape(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.head_dim, ffn=self.ffn, vocab=self.vocab, dtype_bytes=self.dtype_bytes,
        )  # fmt: skip

    def decoder(self) -> Decoder:
        """All of it."""
        plain = float(self.dtype_bytes)
        return Decoder(
            layers=self.layers, hidden=self.hidden, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.head_dim, ffn=self.ffn, vocab=self.vocab, experts=self.experts,
            experts_per_token=self.experts_per_token, expert_ffn=self.expert_ffn,
            shared_ffn=self.shared_ffn, dense_layers=self.dense_layers, tied=self.tied,
            qkv_bias=self.qkv_bias, qk_norm=self.qk_norm, other_bytes=plain,
            linear_bytes=self.linear_bytes or plain, kv_bytes=self.kv_bytes or plain,
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
    slowdown: Factor | None = None  # of an iteration, per other worker of its node that computes


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DeviceSpec:
    """`tp` devices of the catalogue, of which `ep` groups own different experts."""

    kind: Literal["device"]
    device: str
    catalogue: str | None = None  # a file like sim/hardware.toml; None: that one
    tp: Positive = 1
    ep: Positive = 1
    power_cap_w: Watts | None = None  # per GPU
    slowdown: Factor | None = None
    efficiency: Efficiency = field(default_factory=Efficiency)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TableSpec:
    """A measured table of whole iterations. `device` is for power and memory only."""

    kind: Literal["table"]
    path: str = Field(min_length=1)
    beyond: Literal["extend", "refuse"] = "extend"
    overhead_us: float = Field(default=0.0, ge=0)
    device: str | None = None
    catalogue: str | None = None
    tp: Positive = 1
    power_cap_w: Watts | None = None
    slowdown: Factor | None = None  # in the place of what the table says


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AicSpec:
    """Operators measured on silicon (extra `aic`), tabulated once. `device`: for power, memory.

    `model`, `system`, `engine`, `version`, and the modes are in the package's own words.
    """

    kind: Literal["aic"]
    model: str = Field(min_length=1)  # "Qwen/Qwen3-32B", or a folder with a config.json
    system: str = Field(min_length=1)  # "h100_sxm", "h200_sxm", "a100_sxm", "l40s", …
    engine: Literal["trtllm", "vllm", "sglang"]
    version: str | None = None  # of the engine; None: the newest that was measured
    gemm: str | None = None  # "fp8", "bfloat16", …; None: as the model's config says
    kv: str | None = None
    fmha: str | None = None
    beyond: Literal["extend", "refuse"] = "extend"
    overhead_us: float = Field(default=1000.0, ge=0)  # host time, which operators lack
    cache: str | None = None  # a folder; None: ~/.cache/splitweave/aic
    device: str | None = None
    catalogue: str | None = None
    tp: Positive = 1
    ep: Positive = 1
    power_cap_w: Watts | None = None

    def __post_init__(self) -> None:
        if self.tp % self.ep:
            raise ValueError(f"ep ({self.ep}) must divide tp ({self.tp})")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LayersSpec:
    """A folder of layer profiles. `device` is for power and memory only."""

    kind: Literal["layers"]
    path: str = Field(min_length=1)
    beyond: Literal["extend", "refuse"] = "extend"
    overhead_us: float = Field(default=1000.0, ge=0)
    request_us: float = Field(default=0.0, ge=0)
    skew: bool = True  # use the folder's skew.csv, if there is one
    device: str | None = None
    catalogue: str | None = None
    tp: Positive = 1
    power_cap_w: Watts | None = None


Hardware = Annotated[
    RooflineSpec | AffineSpec | DeviceSpec | TableSpec | LayersSpec | AicSpec,
    Field(discriminator="kind"),
]
