"""Builds the cores of a world. Tests plant bugs by giving another builder."""

from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..cluster.core.core import ClusterCore
from ..cluster.core.gateway import GatewayCore
from ..cluster.core.limits import ClusterLimits, GatewayLimits
from ..cluster.policy.links import LinkEstimates
from ..cluster.policy.placement import SLO
from ..cluster.policy.predicted_seconds import PredictedSeconds
from ..proto.ids import GatewayId
from ..proto.toml_file import ConfigError
from ..proto.views import WorkerInfo
from ..workers.core.core import WorkerCore
from ..workers.core.leaping import LeapingCore
from ..workers.core.limits import WorkerLimits
from .clock import to_ns
from .fast_forward import count_decodes
from .scenario import Scenario

T = TypeVar("T")


class CoreBuilder:
    """The cores as they are, with the limits of one scenario. Raises ConfigError."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.cluster_limits = _limits(ClusterLimits, scenario.limits.cluster, "cluster")
        self.gateway_limits = _limits(GatewayLimits, scenario.limits.gateway, "gateway")
        self.worker_limits = _limits(WorkerLimits, scenario.limits.worker, "worker")

    def cluster(self) -> ClusterCore:
        return ClusterCore(self.cluster_limits, self._policy(), self._scenario.block_tokens)

    def _policy(self) -> PredictedSeconds:
        slo, limits = self._scenario.slo, self._scenario.limits
        _refuse_unknown(PredictedSeconds, limits.policy, "policy")
        values: dict[str, Any] = dict(limits.policy)
        return PredictedSeconds(
            slo=SLO(ttft_ns=to_ns(slo.ttft_s), tpot_ns=to_ns(slo.tpot_s)),
            links=LinkEstimates(default_bytes_per_s=limits.link_bytes_per_s),
            **values,
        )

    def gateway(self, gateway_id: GatewayId) -> GatewayCore:
        return GatewayCore(gateway_id, self.gateway_limits)

    def worker(self, info: WorkerInfo) -> WorkerCore:
        return WorkerCore(info, self.worker_limits, self._scenario.model.layers)

    def leaping_worker(self, info: WorkerInfo) -> LeapingCore:
        """The same core, to be told of many iterations at once."""
        layers = self._scenario.model.layers
        return LeapingCore(info, self.worker_limits, layers, count_decodes)


def _limits(cls: type[T], values: dict[str, int | float], table: str) -> T:
    _refuse_unknown(cls, values, table)
    try:
        TypeAdapter(cls).validate_python(values)
        return cls(**values)
    except (ValidationError, ValueError) as error:
        raise ConfigError(f"limits.{table}: {error}") from None


def _refuse_unknown(cls: type[Any], values: dict[str, int | float], table: str) -> None:
    known = [field.name for field in fields(cls)]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown key limits.{table}.{name} (known here: {', '.join(known)})")
