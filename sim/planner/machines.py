"""What a pool's workers may be: so many GPUs of one kind, perhaps under a power cap.

Only those are kept that can hold the model and the longest request: a fleet that has
to refuse requests of the trace is no answer to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...proto.toml_file import ConfigError
from ..costs.build import derived_blocks
from ..costs.catalogue import CATALOGUE, Catalogue, Device, load_catalogue
from ..costs.device import DeviceRoofline
from ..costs.errors import CostError
from ..costs.memory import Blocks
from ..costs.parallel import Parallel
from ..costs.specs import DeviceSpec, ModelSpec
from .slo import Unit

TP_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerType:
    """One kind of worker: `spec` is what the simulator is told, the rest is for all its GPUs.

    `watts`: the GPUs' power limits, the boards' own or the cap.
    """

    name: str
    spec: DeviceSpec
    blocks: Blocks
    dollars_per_hour: float
    watts: float
    link_gbytes_per_s: float

    @property
    def gpus(self) -> int:
        return self.spec.tp

    def costs(self, model: ModelSpec) -> DeviceRoofline:
        """What its iterations take, without its power cap."""
        spec = self.spec
        device = load_catalogue(_path(spec)).device(spec.device)
        parallel = Parallel(tp=spec.tp, ep=spec.ep)
        return DeviceRoofline(model.decoder(), device, parallel, spec.efficiency)

    def cost(self, unit: Unit) -> float:
        """Of one worker."""
        return self.dollars_per_hour if unit is Unit.DOLLARS else self.watts


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Which machines there are to choose from. `caps`: shares of the board's limit; 1 is none."""

    catalogue: Path = CATALOGUE
    machines: tuple[str, ...] = ()  # devices of the catalogue; none named: all GPUs of it
    tp_sizes: tuple[int, ...] = TP_SIZES
    caps: tuple[float, ...] = (1.0,)


def worker_types(
    offer: Offer, model: ModelSpec, block_tokens: int, longest_tokens: int
) -> tuple[WorkerType, ...]:
    """All that fit. Raises ConfigError if none does, with why."""
    catalogue = load_catalogue(offer.catalogue)
    names = offer.machines or tuple(name for name in catalogue.devices if name != "CPU")
    found: list[WorkerType] = []
    refused: list[str] = []
    for name in dict.fromkeys(device_name(catalogue, name) for name in names):
        for spec in _specs(offer, name, catalogue.devices[name]):
            if model.heads % spec.tp:
                continue  # heads are not split
            made = _worker_type(spec, catalogue.devices[name], model, block_tokens)
            if isinstance(made, WorkerType) and made.blocks.count * block_tokens > longest_tokens:
                found.append(made)
            elif isinstance(made, WorkerType):
                held = made.blocks.count * block_tokens
                refused.append(
                    f"{made.name}: KV of {held} tokens; the longest request has {longest_tokens}"
                )
            else:
                refused.append(made)
    if not found:
        shown = "\n".join(refused)
        raise ConfigError(
            f"{shown}\nmodel: it fits on none of these machines; offer larger ones (--machines) or "
            "more GPUs per worker (--tp), or a model with smaller weights"
        )
    return tuple(found)


def device_name(catalogue: Catalogue, given: str) -> str:
    """The device called so, or the only one whose name begins so. Raises ConfigError."""
    if given in catalogue.devices:
        return given
    starts = [name for name in catalogue.devices if name.lower().startswith(given.lower())]
    if len(starts) == 1:
        return starts[0]
    known = ", ".join(catalogue.devices)
    what = f"may be {' or '.join(starts)}" if starts else "is not in the catalogue"
    raise ConfigError(f"machines: {given!r} {what} (known: {known})")


def _specs(offer: Offer, name: str, device: Device) -> Iterator[DeviceSpec]:
    path = None if offer.catalogue == CATALOGUE else str(offer.catalogue)
    for tp in offer.tp_sizes:
        for cap in sorted(offer.caps, reverse=True):
            watts = None if cap == 1 else round(cap * device.peak_w.value, 1)
            if watts is not None and watts <= device.idle_w.value:
                raise ConfigError(f"caps: {cap:g} of {name}'s limit is no more than it idles at")
            yield DeviceSpec(kind="device", device=name, catalogue=path, tp=tp, power_cap_w=watts)


def _worker_type(
    spec: DeviceSpec, device: Device, model: ModelSpec, block_tokens: int
) -> WorkerType | str:
    cap = "" if spec.power_cap_w is None else f"-{spec.power_cap_w:g}W"
    name = f"{spec.device}-TP{spec.tp}{cap}"
    try:
        blocks = derived_blocks(spec, model, block_tokens)
    except CostError as error:
        return f"{name}: {error}"
    assert blocks is not None, "a device is named"
    return WorkerType(
        name=name,
        spec=spec,
        blocks=blocks,
        dollars_per_hour=device.dollars_per_hour.value * spec.tp,
        watts=(spec.power_cap_w or device.peak_w.value) * spec.tp,
        link_gbytes_per_s=device.network_gbytes_per_s.value * spec.tp,
    )


def _path(spec: DeviceSpec) -> Path:
    return CATALOGUE if spec.catalogue is None else Path(spec.catalogue)


def uncapped(types: Sequence[WorkerType]) -> tuple[WorkerType, ...]:
    """Those without a cap: under one a worker is slower and costs no dollar less."""
    return tuple(kind for kind in types if kind.spec.power_cap_w is None)
