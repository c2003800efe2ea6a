"""Refuses pools that the Ray cluster can never hold, before any actor waits for them."""

import ray

from .config import ClusterConfig, ConfigError, PoolConfig


def check_resources(config: ClusterConfig) -> None:
    """Raises ConfigError naming the pools' demand and what the cluster has free."""
    free = ray.available_resources()
    for resource, key in _demanded(config):
        shares = {pool.name: (pool.count, _of(pool, resource)) for pool in config.pools}
        gateway = config.gateway
        shares["gateway"] = (gateway.count, float(gateway.resources.get(resource, 0.0)))
        wanted = sum(count * share for count, share in shares.values())
        have = free.get(resource, 0.0)
        if wanted > have + 1e-6:
            asked = ", ".join(
                f"{name}: {count} x {share:g}" for name, (count, share) in shares.items() if share
            )
            raise ConfigError(
                f"pools: too few resources: {key} {wanted:g} asked ({asked}), {have:g} free "
                "in the Ray cluster; lower count or the workers' share, or add nodes"
            )


def _demanded(config: ClusterConfig) -> list[tuple[str, str]]:
    pooled = {name for pool in config.pools for name in pool.resources}
    named = sorted(pooled | config.gateway.resources.keys())
    kinds = sorted({pool.accelerator for pool in config.pools if pool.accelerator})
    return [
        ("CPU", "cpus"),
        ("GPU", "gpus"),
        *((name, f"resources.{name}") for name in named),
        *((f"accelerator_type:{kind}", f"accelerator {kind}") for kind in kinds),
    ]


def _of(pool: PoolConfig, resource: str) -> float:
    if resource == "CPU":
        return float(pool.cpus)
    if resource == "GPU":
        return float(pool.gpus)
    if resource.startswith("accelerator_type:"):
        kind = resource.partition(":")[2]
        return 0.001 if pool.accelerator == kind else 0.0
    return float(pool.resources.get(resource, 0.0))
