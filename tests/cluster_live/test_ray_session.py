"""Joining Ray: which cluster, in which folder, and what an operator is told if it fails."""

import dataclasses
import logging
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from splitweave.cluster.live import ray_session as sut
from splitweave.cluster.live.config import ClusterConfig, ConfigError, RayConfig
from splitweave.cluster.live.serve import default_config


def config(address: str) -> ClusterConfig:
    return dataclasses.replace(default_config(), ray=RayConfig(address=address, namespace="ns"))


@pytest.fixture
def inits(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ray.init is called with, and the folder it is called in."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(
        ray, "init", lambda **options: calls.append(options | {"folder": str(Path.cwd())})
    )
    return calls


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def init(**_options: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)


@pytest.mark.parametrize(
    ("given", "asked"), [("local", "local"), ("auto", None), ("10.0.0.1:6379", "10.0.0.1:6379")]
)
def test_the_address_and_namespace_are_rays(
    inits: list[dict[str, Any]], given: str, asked: str | None
) -> None:
    sut.connect(config(given))
    assert (inits[0]["address"], inits[0]["namespace"]) == (asked, "ns")


def test_a_local_cluster_is_ours_to_end(inits: list[dict[str, Any]]) -> None:
    assert sut.connect(config("local"))
    assert inits[0]["include_dashboard"] is False


@pytest.mark.parametrize("head", [True, False])
def test_any_other_is_ours_only_if_ray_started_its_head_here(
    inits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, head: bool
) -> None:
    del inits
    node = type("Node", (), {"head": head})
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert sut.connect(config("auto")) is head


def test_ray_starts_in_a_neutral_folder_and_we_come_back(
    inits: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout's `proto` and `kernels` would shadow packages of those names in every actor."""
    monkeypatch.chdir(tmp_path)
    sut.connect(config("local"))
    assert inits[0]["folder"] == tempfile.gettempdir()
    assert Path.cwd() == tmp_path


def test_an_address_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(monkeypatch, ConnectionError("nobody is there"))
    with pytest.raises(ConfigError, match=r"ray.address 10\.0\.0\.1:1: nobody is there"):
        sut.connect(config("10.0.0.1:1"))
    assert Path.cwd() == tmp_path


def test_a_refused_token_says_where_tokens_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, ray.exceptions.AuthenticationError("invalid token"))
    with pytest.raises(ConfigError, match=r"the cluster refused our token.*RAY_AUTH_TOKEN_PATH"):
        sut.connect(config("auto"))


def test_rays_token_notice_is_silenced_only_while_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")
    before, during = logger.level, []
    monkeypatch.setattr(ray, "init", lambda **_options: during.append(logger.level))
    sut.connect(config("local"))
    assert during == [logging.ERROR]
    assert logger.level == before


def test_without_ray_there_is_no_session_folder() -> None:
    if ray.is_initialized():
        pytest.skip("another test's Ray is up")
    assert sut.session_folder() == ""


@pytest.fixture
def shutdowns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Ray's shutdowns; our handlers, as `serve` sets them, for the time of the test."""
    done: list[str] = []
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shutdown"))
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    yield done
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_waits_until_it_is_up_and_then_ends_it(
    monkeypatch: pytest.MonkeyPatch, shutdowns: list[str], number: signal.Signals
) -> None:
    """Interrupted in the middle, Ray leaves its agents behind for a minute."""
    steps: list[str] = []

    def init(**_options: object) -> None:
        ray._private.utils.set_sigterm_handler(lambda *_: steps.append("Ray's own handler"))
        signal.raise_signal(number)
        steps.append("up")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyboardInterrupt):
        sut.connect(config("local"))
    assert steps == ["up"]
    assert shutdowns == ["shutdown"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_ray_does_not_take_the_place_of_our_sigterm_handler(
    inits: list[dict[str, Any]], shutdowns: list[str]
) -> None:
    sut.connect(config("local"))
    assert len(inits) == 1
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    assert shutdowns == []
