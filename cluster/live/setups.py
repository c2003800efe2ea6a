"""From the operator's config to what each actor is constructed with."""

from ...proto.ids import GatewayId, WorkerId
from ...workers.live.setup import NcclLimits, WorkerLimits, WorkerSetup
from ..core.limits import ClusterLimits, GatewayLimits
from ..policy.placement import SLO
from ..policy.predicted_seconds import PredictedSeconds
from .config import ClusterConfig, PoolConfig
from .controller import ControllerSetup
from .gateway_setup import GatewaySetup
from .model_path import resolve


def controller_setup(
    config: ClusterConfig, worker_ids: tuple[WorkerId, ...], gateway_ids: tuple[GatewayId, ...]
) -> ControllerSetup:
    """What the controller needs."""
    limits = config.controller
    return ControllerSetup(
        namespace=config.ray.namespace,
        limits=ClusterLimits(
            queue_len_max=limits.queue_len_max,
            queue_ns_max=_ns(limits.queue_s_max),
            queue_age_ns=_ns(limits.queue_age_s),
            suspect_after_ns=_ns(limits.suspect_after_s),
            dead_after_ns=_ns(limits.dead_after_s),
            load_ns_max=_ns(limits.load_s_max),
            resume_grace_ns=_ns(config.gateway.resume_grace_s),
        ),
        policy=_policy(config),
        block_tokens=config.budgets.block_tokens,
        worker_ids=worker_ids,
        gateway_ids=gateway_ids,
        record=config.record,
    )


def _policy(config: ClusterConfig) -> PredictedSeconds:
    slo = SLO(ttft_ns=_ns(config.slo.ttft_s), tpot_ns=_ns(config.slo.tpot_s))
    policy = PredictedSeconds(slo=slo, chunk_tokens=config.budgets.batched_tokens_max)
    # A worker that is given more than its queue holds refuses it.
    policy.waiting_max = min(policy.waiting_max, config.budgets.queue_len_max)
    return policy


def gateway_setup(config: ClusterConfig, gateway_id: GatewayId) -> GatewaySetup:
    """What a gateway needs. Raises ConfigError if the model is not there."""
    path, name = resolve(config.model)
    return GatewaySetup(
        namespace=config.ray.namespace,
        gateway_id=gateway_id,
        limits=GatewayLimits(
            streams_max=config.gateway.streams_max,
            stall_ns=_ns(config.gateway.stall_s),
            resume_grace_ns=_ns(config.gateway.resume_grace_s),
        ),
        model_path=str(path),
        model_name=name,
        context_tokens_max=config.model.context_tokens_max,
        block_tokens=config.budgets.block_tokens,
        host=config.gateway.host,
        port=config.gateway.port,
        record=config.record,
    )


def worker_ids(config: ClusterConfig) -> tuple[WorkerId, ...]:
    """The ids of all workers of all pools, pool by pool."""
    return tuple(
        WorkerId(f"{pool.name}-{index}") for pool in config.pools for index in range(pool.count)
    )


def worker_setup(config: ClusterConfig, pool: PoolConfig, worker_id: WorkerId) -> WorkerSetup:
    """What a worker needs. Raises ConfigError if the model is not there."""
    path, _ = resolve(config.model)
    budgets = config.budgets
    return WorkerSetup(
        namespace=config.ray.namespace,
        worker_id=worker_id,
        peers=tuple(other for other in worker_ids(config) if other != worker_id),
        pool=pool.name,
        role=pool.role,
        limits=WorkerLimits(
            batched_tokens_max=budgets.batched_tokens_max,
            prefill_chunk_tokens=budgets.prefill_chunk_tokens,
            sequences_max=budgets.sequences_max,
            queue_len_max=budgets.queue_len_max,
            copy_percent=budgets.copy_percent,
            drain_copy_percent=max(25, budgets.copy_percent),
            heartbeat_ns=_ns(config.controller.heartbeat_s),
        ),
        model_path=str(path),
        context_tokens_max=config.model.context_tokens_max,
        device=pool.device,
        threads=pool.threads,
        blocks=pool.blocks,
        host_blocks=pool.host_blocks,
        block_tokens=budgets.block_tokens,
        record=config.record,
        same_host=config.transport.same_host,
        nccl=NcclLimits(
            pairs_max=config.nccl.pairs_max,
            ctas_max=config.nccl.ctas_max,
            abort_stuck_s=config.nccl.abort_stuck_s,
        ),
    )


def _ns(seconds: float) -> int:
    return max(1, round(seconds * 1e9))
