"""A cluster that starts is whole; one that does not leaves nothing running."""

import dataclasses
from typing import Any

import pytest
import ray
from splitweave.cluster.live import cluster as live
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, ConfigError, ModelConfig
from splitweave.cluster.live.serve import default_config
from stand_ins import ActorKind, Called

CONFIG = default_config()


class Actors:
    """Ray with one controller, one gateway and workers that come up one by one."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1:7000", "")
        self.states: list[int] = [0, 1, 3]  # workers alive, per look
        self.errors: list[str] = []
        self.killed: list[str] = []
        self.shut_down = 0
        self.kind = ActorKind(self._handle)
        self.handles: dict[str, Any] = {}

    def get(self, called: Called | list[Called], timeout: float | None = None) -> Any:
        del timeout
        return [one.value() for one in called] if isinstance(called, list) else called.value()

    def wait(self, refs: list[Called], timeout: float) -> tuple[list[Called], list[Called]]:
        del timeout
        return refs, []

    def kill(self, handle: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(handle.name)

    def shutdown(self) -> None:
        self.shut_down += 1

    def _handle(self, options: dict[str, Any]) -> Any:
        alive = type("Worker", (), {"state": "alive"})
        methods = {
            "name": options["name"],
            "address": Called(lambda: self.address),
            "status": Called(lambda: type("Status", (), {"workers": [alive] * self.states.pop(0)})),
            "error": Called(lambda: self.errors.pop(0) if self.errors else ""),
            "stop": Called(lambda: None),
        }
        handle = self.handles[options["name"]] = type("Handle", (), methods)
        return handle


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    stage = Actors()
    for name in ("get", "wait", "kill", "shutdown"):
        monkeypatch.setattr(ray, name, getattr(stage, name))
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 8.0})
    for name in ("controller_class", "gateway_class", "worker_class"):
        monkeypatch.setattr(live, name, lambda: stage.kind)
    monkeypatch.setattr(live, "connect", lambda _config: True)
    monkeypatch.setattr(live, "POLL_S", 0.0)
    return stage


def config(**changes: Any) -> ClusterConfig:
    return dataclasses.replace(CONFIG, **changes)


def names(stage: Actors) -> set[str]:
    return {options["name"] for options, _ in stage.kind.made}


def test_start_returns_when_every_worker_is_alive_and_tells_how_far_it_is(actors: Actors) -> None:
    steps: list[tuple[str, int, int]] = []
    cluster = LiveCluster.start(CONFIG, lambda *step: steps.append(step))
    assert cluster.address == "127.0.0.1:7000"
    assert steps == [
        ("starting Ray", 0, 3), ("loading the model", 0, 3), ("loading the model", 1, 3),
        ("loading the model", 3, 3),
    ]  # fmt: skip
    assert actors.killed == []


def test_stop_gives_streams_a_moment_then_ends_every_actor_and_our_ray(actors: Actors) -> None:
    cluster = LiveCluster.start(CONFIG)
    cluster.stop()
    assert actors.handles["gateway/gateway-0"].stop.calls == [(live.STOP_GRACE_S,)]
    assert set(actors.killed) == names(actors)
    assert actors.killed[-1] == "controller"  # last: it would place again what the others lose
    assert actors.shut_down == 1


def test_a_ray_that_is_not_ours_is_left_running(actors: Actors) -> None:
    LiveCluster.start_beside(CONFIG).stop()
    assert set(actors.killed) == names(actors)
    assert actors.shut_down == 0


@pytest.mark.parametrize("error", [TimeoutError(), ray.exceptions.RayActorError()])
def test_a_gateway_that_does_not_stop_is_ended_all_the_same(
    actors: Actors, error: Exception
) -> None:
    cluster = LiveCluster.start(CONFIG)

    def hang() -> None:
        raise error

    actors.handles["gateway/gateway-0"].stop = Called(hang)
    cluster.stop()
    assert set(actors.killed) == names(actors)


def test_a_second_stop_finds_nothing_to_do(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = LiveCluster.start(CONFIG)
    cluster.stop()
    ended = len(actors.killed)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    cluster.stop()
    assert len(actors.killed) == ended


def test_every_gateway_is_waited_for_and_stopped(actors: Actors) -> None:
    gateway = dataclasses.replace(CONFIG.gateway, count=3)
    cluster = LiveCluster.start(config(gateway=gateway))
    assert cluster.address == ",".join(["127.0.0.1:7000"] * 3)
    cluster.stop()
    for index in range(3):
        assert actors.handles[f"gateway/gateway-{index}"].stop.calls == [(live.STOP_GRACE_S,)]
    assert set(actors.killed) == names(actors)


def test_what_the_gateway_cannot_do_is_the_operators_to_read(actors: Actors) -> None:
    actors.address = ("", "cannot listen on 127.0.0.1:7070")
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:7070"):
        LiveCluster.start(CONFIG)
    assert set(actors.killed) == names(actors)
    assert actors.shut_down == 1


def test_what_a_worker_cannot_do_is_the_operators_to_read(actors: Actors) -> None:
    actors.errors = ["", "decode-0: blocks (512) need 40 GB"]
    with pytest.raises(ConfigError, match=r"decode-0: blocks \(512\) need 40 GB"):
        LiveCluster.start(CONFIG)
    assert set(actors.killed) == names(actors)


def test_workers_that_do_not_come_up_are_counted_and_the_logs_named(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 0.0, 0.0, 500.0, 500.0])
    monkeypatch.setattr(live.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(live, "session_folder", lambda: "/tmp/ray/session")
    actors.states = [1, 1]
    with pytest.raises(ConfigError) as refused:
        LiveCluster.start(CONFIG)
    assert str(refused.value) == (
        "1 of 3 workers came up within 180 s; Ray's logs: /tmp/ray/session/logs"
    )


def test_a_gateway_that_dies_at_start_is_said(actors: Actors) -> None:
    def die() -> None:
        raise ray.exceptions.RayActorError

    actors.kind.handle = lambda options: _with_address(actors, options, die)
    with pytest.raises(ConfigError, match="gateway-0 died at start"):
        LiveCluster.start(CONFIG)


def _with_address(stage: Actors, options: dict[str, Any], answer: Any) -> Any:
    handle = stage._handle(options)
    handle.address = Called(answer)
    return handle


def test_a_namespace_that_is_taken_is_named_and_nothing_is_made(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Taken(ActorKind):
        def options(self, **_options: Any) -> ActorKind:
            raise ValueError("the name is taken")

    monkeypatch.setattr(live, "controller_class", lambda: Taken(actors._handle))
    with pytest.raises(ConfigError, match=r"ray\.namespace: a cluster named splitweave runs here"):
        LiveCluster.start(CONFIG)
    assert actors.kind.made == []


@pytest.mark.parametrize("start", [LiveCluster.start, LiveCluster.start_beside])
def test_a_model_that_is_not_there_is_refused_before_any_actor_is_made(
    actors: Actors, start: Any
) -> None:
    with pytest.raises(ConfigError, match=r"model\.path: /nowhere\.gguf: no such file"):
        start(config(model=ModelConfig(path="/nowhere.gguf")))
    assert actors.kind.made == []


def test_too_few_resources_are_refused_before_any_actor_is_made(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.1})
    with pytest.raises(ConfigError, match="too few resources: cpus"):
        LiveCluster.start(CONFIG)
    assert actors.kind.made == []


def test_an_interrupt_during_the_start_leaves_nothing_running(actors: Actors) -> None:
    def interrupted(what: str, done: int, total: int) -> None:
        del done, total
        if what != "starting Ray":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LiveCluster.start(CONFIG, interrupted)
    assert set(actors.killed) == names(actors)
    assert actors.shut_down == 1
