"""`splitweave serve`: a cluster that runs until it is told to stop."""

import dataclasses
import signal
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from ...proto.toml_file import build
from ...proto.views import Role
from .cluster import LiveCluster, Progress
from .config import ClusterConfig, ConfigError, ModelConfig, PoolConfig, load_config
from .model_path import resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the command line says over the file; None keeps the file's word."""

    model: str | None = None
    host: str | None = None
    port: int | None = None
    prefill: int | None = None
    decode: int | None = None


def serve(config_path: Path | None, overrides: Overrides) -> None:
    """Start, say where, wait for SIGINT or SIGTERM, stop everything.

    Raises ConfigError for whatever the operator can mend, KeyboardInterrupt if
    either signal comes before it serves; nothing is left running then.
    """
    config = override(load_config(config_path) if config_path else default_config(), overrides)
    console = Console(stderr=True)
    _interrupt_on_signal()
    with console.status("starting") as status:
        progress = _progress_to(status) if console.is_terminal else _line_to(console)
        cluster = LiveCluster.start(config, progress)
    try:
        stop = _stop_on_signal()
        console.print(
            f"[green]serving[/green] {resolve(config.model)[1]} on [bold]{cluster.address}[/bold]"
        )
        ask = f"splitweave generate --address {cluster.address} 'Why is the sky blue?'"
        console.print(f"try: {ask}", soft_wrap=True)
        stop.wait()
        console.print("stopping")
    finally:
        cluster.stop()


def default_config() -> ClusterConfig:
    """1P2D on CPU with the demo model."""
    return ClusterConfig(
        model=ModelConfig(path="demo"),
        pools=[
            PoolConfig(name="prefill", role=Role.PREFILL, count=1, cpus=0.5),
            PoolConfig(name="decode", role=Role.DECODE, count=2, cpus=0.5),
        ],
    )


def override(config: ClusterConfig, overrides: Overrides) -> ClusterConfig:
    """The config with the command line's word over it. Raises ConfigError."""
    tables = dataclasses.asdict(config)
    gateway = {"host": overrides.host, "port": overrides.port}
    tables["gateway"] |= {key: value for key, value in gateway.items() if value is not None}
    if overrides.model is not None:
        tables["model"]["path"] = overrides.model
    counts = {Role.PREFILL: overrides.prefill, Role.DECODE: overrides.decode}
    for role, count in counts.items():
        if count is not None:
            _only_pool(tables["pools"], role)["count"] = count
    return build(ClusterConfig, tables, "command line")


def _only_pool(pools: list[dict[str, Any]], role: Role) -> dict[str, Any]:
    """The pool that an option for this role is about."""
    found = [pool for pool in pools if pool["role"] is role]
    if len(found) != 1:
        names = ", ".join(pool["name"] for pool in found) or "none"
        raise ConfigError(
            f"--{role}: needs one pool with role {role} in the config; there is {names}"
        )
    return found[0]


def _progress_to(status: Status) -> Progress:
    def show(what: str, done: int, total: int) -> None:
        status.update(f"{what}: {done} of {total} workers ready")

    return show


def _line_to(console: Console) -> Progress:
    """One line where nothing can be redrawn, once the config has passed."""
    said = False

    def show(_what: str, _done: int, _total: int) -> None:
        nonlocal said
        if not said:
            console.print("starting; this takes up to a minute")
        said = True

    return show


def _interrupt_on_signal() -> None:
    """SIGINT (also where a shell's `&` had it ignored) and SIGTERM interrupt what runs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def _stop_on_signal() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets; a second SIGINT is the default."""
    stop = threading.Event()

    def ask(_signum: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    return stop
