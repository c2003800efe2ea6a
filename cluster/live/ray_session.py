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
    with _neutral_folder(), _quiet(), _own_sigterm():
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
def _own_sigterm() -> Iterator[None]:
    """Ray puts a SIGTERM handler over ours, which ends the process without our clean end."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(ours) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


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
