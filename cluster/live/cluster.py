"""Starts a whole cluster of actors, watches it come up, and takes it down."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from ...proto.ids import GatewayId, WorkerId
from ...workers.live.actor import worker_class
from ...workers.live.post import CONTROLLER, gateway_name, worker_name
from .config import ClusterConfig, ConfigError, PoolConfig
from .controller import controller_class
from .gateway_actor import gateway_class
from .gateways import gateway_setups
from .model_path import check_model
from .ray_session import connect, session_folder
from .resources import check_resources
from .setups import controller_setup, worker_setup

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.2
STOP_GRACE_S = 2.0
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class Actors:
    """Handles of everything we started; ours to end."""

    controller: Any
    gateways: dict[GatewayId, Any]
    workers: dict[WorkerId, Any]

    def all(self) -> list[Any]:
        return [*self.gateways.values(), *self.workers.values(), self.controller]


class LiveCluster:
    """A running cluster. `stop()` leaves no process of it behind.

    `address` is where a client finds it: host:port of each gateway, separated by commas.
    """

    def __init__(self, config: ClusterConfig, actors: Actors, address: str, embedded: bool) -> None:
        self.config = config
        self.address = address
        self.actors = actors
        self._embedded = embedded

    @classmethod
    def start(cls, config: ClusterConfig, progress: Progress = no_progress) -> "LiveCluster":
        """Connects Ray, starts all actors, returns when every worker is alive.

        Raises ConfigError for whatever the operator can mend; nothing is left running then.
        """
        check_model(config.model)
        progress("starting Ray", 0, config.workers)
        embedded = connect(config)
        return cls._start_in(config, progress, embedded)

    @classmethod
    def start_beside(cls, config: ClusterConfig) -> "LiveCluster":
        """As `start`, within a Ray session that is connected already."""
        return cls._start_in(config, no_progress, embedded=False)

    @classmethod
    def _start_in(cls, config: ClusterConfig, progress: Progress, embedded: bool) -> "LiveCluster":
        actors: Actors | None = None
        with contextlib.ExitStack() as undo:
            undo.callback(lambda: _end(actors, embedded))
            check_resources(config)
            actors = _create(config)
            address = ",".join(_await_gateway(*named) for named in actors.gateways.items())
            _await_workers(config, actors, progress)
            undo.pop_all()  # it stands: nothing to undo
        return cls(config, actors, address, embedded)

    def status(self) -> Any:
        """The controller's `ClusterStatus`."""
        return ray.get(self.actors.controller.status.remote(), timeout=10)

    def stop(self) -> None:
        """Streams in flight get a moment, then every actor ends. Safe to call twice."""
        if ray.is_initialized():
            # Whatever goes wrong here: it is killed next anyway.
            with contextlib.suppress(RayError, TimeoutError):
                stops = [g.stop.remote(STOP_GRACE_S) for g in self.actors.gateways.values()]
                ray.get(stops, timeout=STOP_GRACE_S + 6)
        _end(self.actors, self._embedded)


def _create(config: ClusterConfig) -> Actors:
    namespace = config.ray.namespace
    worker_ids = [
        (WorkerId(f"{pool.name}-{index}"), pool)
        for pool in config.pools
        for index in range(pool.count)
    ]
    for_gateways = gateway_setups(config)
    # Every setup before any actor: a config that cannot work leaves nothing running.
    for_controller = controller_setup(config, tuple(w for w, _ in worker_ids), tuple(for_gateways))
    for_workers = {w: (pool, worker_setup(config, pool, w)) for w, pool in worker_ids}
    # Every message is a task of an actor: Ray's control store would keep an account of each.
    named: dict[str, Any] = {"namespace": namespace, "enable_task_events": False}
    try:
        controller = controller_class().options(name=CONTROLLER, **named).remote(for_controller)
    except ValueError:
        raise ConfigError(
            f"ray.namespace: a cluster named {namespace} runs here already; choose another"
        ) from None
    gateways = {
        gateway_id: gateway_class()
        .options(name=gateway_name(gateway_id), resources=config.gateway.resources, **named)
        .remote(setup)
        for gateway_id, setup in for_gateways.items()
    }
    workers = {
        worker_id: worker_class()
        .options(name=worker_name(worker_id), **named, **_ray_options(pool))
        .remote(setup)
        for worker_id, (pool, setup) in for_workers.items()
    }
    return Actors(controller, gateways, workers)


def _ray_options(pool: PoolConfig) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "resources": pool.resources,
        "runtime_env": {
            "env_vars": {
                "OMP_NUM_THREADS": str(pool.threads),
                "NUMBA_NUM_THREADS": str(pool.threads),
                # Idle OpenMP threads would spin on cores that other workers share.
                "OMP_WAIT_POLICY": "passive",
                "GOMP_SPINCOUNT": "100",
            }
        },
    }
    if pool.accelerator:
        options["accelerator_type"] = pool.accelerator
    return options


def _await_gateway(gateway_id: GatewayId, handle: Any) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        address, error = _gateway_address(gateway_id, handle)
        if error:
            raise ConfigError(error)
        if address:
            return address
        time.sleep(POLL_S)
    raise ConfigError(
        f"{gateway_id} did not listen within {START_TIMEOUT_S:g} s; "
        f"Ray's logs: {session_folder()}/logs"
    )


def _gateway_address(gateway_id: GatewayId, handle: Any) -> tuple[str, str]:
    try:
        address, error = ray.get(handle.address.remote(), timeout=ANSWER_TIMEOUT_S)
    except RayActorError as failure:
        raise ConfigError(f"{gateway_id} died at start: {failure}") from None
    except GetTimeoutError:
        return "", ""  # slow: the deadline bounds that
    return str(address), str(error)


def _await_workers(config: ClusterConfig, actors: Actors, progress: Progress) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        alive = _alive(actors)
        progress("loading the model", alive, config.workers)
        if alive >= config.workers:
            return
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{alive} of {config.workers} workers came up within {START_TIMEOUT_S:g} s; "
                f"Ray's logs: {session_folder()}/logs"
            )
        _raise_worker_error(actors)
        time.sleep(POLL_S)


def _alive(actors: Actors) -> int:
    """Workers that the controller counts as alive; 0 while it is slow or dying."""
    try:
        status = ray.get(actors.controller.status.remote(), timeout=ANSWER_TIMEOUT_S)
    except (RayActorError, GetTimeoutError):
        return 0  # Ray restarts it, the deadline bounds that
    return sum(worker.state == "alive" for worker in status.workers)


def _raise_worker_error(actors: Actors) -> None:
    for handle in actors.workers.values():
        done, _ = ray.wait([ref := handle.error.remote()], timeout=0.05)
        if done and (error := _result(ref)):
            raise ConfigError(error)


def _result(ref: Any) -> str:
    try:
        return str(ray.get(ref))
    except RayActorError:
        return ""  # dying; Ray restarts it, the deadline bounds that


def _end(actors: Actors | None, embedded: bool) -> None:
    if not ray.is_initialized():
        return
    for handle in actors.all() if actors else []:
        ray.kill(handle, no_restart=True)
    if embedded:
        ray.shutdown()
