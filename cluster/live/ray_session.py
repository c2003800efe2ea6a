"""Joins a Ray cluster, or starts an embedded one that dies with this process."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ray

from .config import ClusterConfig, ConfigError

log = logging.getLogger(__name__)


def connect(config: ClusterConfig) -> bool:
    """Connect as the config says; True if the Ray cluster is embedded (ours to end).

    Raises ConfigError if the address does not answer or refuses our token.
    """
    address = config.ray.address
    with _neutral_folder(), _quiet(), _undisturbed():
        try:
            if address == "local":
                _init("local", config)
                return True
            _init(None if address == "auto" else address, config)
        except ConnectionError as error:
            raise ConfigError(f"ray.address {address}: {error}") from None
        except ray.exceptions.AuthenticationError as error:
            raise ConfigError(
                f"ray.address {address}: the cluster refused our token ({error}). Set "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
            ) from None
    return _is_embedded()


def session_folder() -> str:
    """Where Ray of this process keeps its logs; empty if it does not run here."""
    node = ray._private.worker._global_node  # noqa: SLF001  (Ray has no public name for it)
    return "" if node is None else str(node.get_session_dir_path())


def _is_embedded() -> bool:
    return bool(getattr(ray._private.worker._global_node, "head", False))  # noqa: SLF001


def _init(address: str | None, config: ClusterConfig) -> None:
    ray.init(
        address=address,
        namespace=config.ray.namespace,
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if address == "local" else None,
        # Ray would run workers at niceness 15: whatever else runs here would go first.
        _system_config={"worker_niceness": 0} if address == "local" else None,
    )


@contextlib.contextmanager
def _neutral_folder() -> Iterator[None]:
    """Ray puts the driver's folder on every actor's import path.

    Started in a checkout, our top-level folders (`proto`, `kernels`, …) would
    shadow packages of those names there.
    """
    before = Path.cwd()
    os.chdir(tempfile.gettempdir())
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """SIGINT and SIGTERM wait until Ray is up, then interrupt.

    Half started, Ray leaves two agents behind for a minute. Its own SIGTERM
    handler is kept from taking our handler's place: it does the same.
    """
    waiting: list[int] = []
    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        ours = {}
    ours = {number: handler for number, handler in ours.items() if callable(handler)}
    rays = ray._private.utils.set_sigterm_handler  # noqa: SLF001
    for number in ours:
        signal.signal(number, lambda came, _frame: waiting.append(came))
    if signal.SIGTERM in ours:
        ray._private.utils.set_sigterm_handler = lambda _handler: None  # noqa: SLF001
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = rays  # noqa: SLF001
        for number, handler in ours.items():
            signal.signal(number, handler)
    if waiting:
        ray.shutdown()
        raise KeyboardInterrupt


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray announces token authentication on stderr each time; the docs say it once."""
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
