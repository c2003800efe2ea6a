"""The hardware catalogue: what a device can do, and who says so.

`sim/hardware.toml` ships with the package; a file of your own may stand beside it
or in its place. A figure is a value with a source, so that a plan can be traced
back to a datasheet, a paper, or an honest "estimate".
"""

from dataclasses import fields
from functools import cache
from pathlib import Path

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ...proto.toml_file import load
from .errors import CostError

CATALOGUE = Path(__file__).resolve().parents[1] / "hardware.toml"
STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Figure:
    """A number and the key of its source in `[sources]`."""

    value: float = Field(gt=0)
    source: str = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Device:
    """One GPU. FLOP/s dense; bandwidths at their peak, links one way; GB are 1e9 bytes.

    `fp8_tflops` None: it computes fp8 weights in bf16. `machine_w`: this GPU's
    share of what its machine is rated for, where that is published.
    """

    bf16_tflops: Figure
    memory_gbytes_per_s: Figure
    memory_gbytes: Figure
    link_gbytes_per_s: Figure
    link_latency_us: Figure
    network_gbytes_per_s: Figure
    dollars_per_hour: Figure
    idle_w: Figure
    peak_w: Figure
    decode_low_w: Figure
    decode_high_w: Figure
    decode_midpoint: Figure
    fp8_tflops: Figure | None = None
    machine_w: Figure | None = None

    def __post_init__(self) -> None:
        watts = (self.idle_w, self.decode_low_w, self.decode_high_w, self.peak_w)
        names = ("idle_w", "decode_low_w", "decode_high_w", "peak_w")
        for lower, upper in zip(range(3), range(1, 4), strict=True):
            if watts[lower].value > watts[upper].value:
                raise ValueError(
                    f"{names[lower]} ({watts[lower].value:g}) exceeds "
                    f"{names[upper]} ({watts[upper].value:g})"
                )

    def figures(self) -> dict[str, Figure]:
        """All figures that are given, by name."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: figure for name, figure in given.items() if figure is not None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Catalogue:
    """A whole file."""

    sources: dict[str, str] = Field(min_length=1)
    devices: dict[str, Device] = Field(min_length=1)

    def __post_init__(self) -> None:
        for name, device in self.devices.items():
            for key, figure in device.figures().items():
                if figure.source not in self.sources:
                    known = ", ".join(sorted(self.sources))
                    raise ValueError(f"devices.{name}.{key}: no source {figure.source!r} ({known})")

    def device(self, name: str) -> Device:
        """The device of that name. Raises CostError."""
        device = self.devices.get(name)
        if device is None:
            known = ", ".join(sorted(self.devices))
            raise CostError(f"no device {name!r} in the catalogue (known: {known})")
        return device

    def source(self, figure: Figure) -> str:
        """Who says so, in full."""
        return self.sources[figure.source]


@cache
def load_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """The catalogue at `path`. Raises ConfigError."""
    return load(Catalogue, path)
