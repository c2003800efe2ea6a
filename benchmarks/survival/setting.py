"""The cluster that is hurt: 2P3D on CPU with the demo model, small enough for two cores."""

from splitweave.cluster.live.config import (
    BudgetConfig,
    ClusterConfig,
    ControllerConfig,
    GatewayConfig,
    ModelConfig,
    PoolConfig,
    RayConfig,
)
from splitweave.proto.views import Role

PREFILL, DECODE, GATEWAYS = 2, 3, 2


def setting(blocks: int, queue_len_max: int) -> ClusterConfig:
    """2P3D behind two gateways on free ports; `blocks` KV blocks of 16 tokens per worker."""
    return ClusterConfig(
        model=ModelConfig(path="demo"),
        pools=[
            PoolConfig(name="prefill", role=Role.PREFILL, count=PREFILL, cpus=0.1, blocks=blocks),
            PoolConfig(name="decode", role=Role.DECODE, count=DECODE, cpus=0.1, blocks=blocks),
        ],
        budgets=BudgetConfig(sequences_max=16),
        gateway=GatewayConfig(port=0, count=GATEWAYS),
        controller=ControllerConfig(queue_len_max=queue_len_max),
        ray=RayConfig(address="local", namespace="splitweave-survival"),
    )
