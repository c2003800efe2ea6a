"""`splitweave serve`: the command line's word over the file's, and a clean end."""

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from splitweave.cluster.live import serve as sut
from splitweave.cluster.live.cli.reporting import reporting
from splitweave.cluster.live.config import ClusterConfig, ConfigError, PoolConfig
from splitweave.cluster.live.serve import Overrides, default_config, override
from splitweave.proto.views import Role

CONFIG = default_config()


def test_the_default_is_one_prefill_and_two_decode_workers_of_the_demo_model() -> None:
    assert CONFIG.model.path == "demo"
    shape = [(pool.name, pool.role, pool.count) for pool in CONFIG.pools]
    assert shape == [("prefill", Role.PREFILL, 1), ("decode", Role.DECODE, 2)]
    assert (CONFIG.gateway.host, CONFIG.gateway.port) == ("127.0.0.1", 7070)


def test_the_default_cluster_fits_two_cores() -> None:
    assert sum(pool.count * pool.cpus for pool in CONFIG.pools) <= 2
    assert all(pool.gpus == 0 for pool in CONFIG.pools)


def test_what_is_not_given_keeps_the_files_word() -> None:
    assert override(CONFIG, Overrides()) == CONFIG


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        (Overrides(model="/m/llama.gguf"), ("model", "path"), "/m/llama.gguf"),
        (Overrides(host="0.0.0.0"), ("gateway", "host"), "0.0.0.0"),
        (Overrides(port=0), ("gateway", "port"), 0),
        (Overrides(prefill=3), ("pools", 0, "count"), 3),
        (Overrides(decode=5), ("pools", 1, "count"), 5),
    ],
)
def test_an_option_changes_its_key_and_no_other(
    given: Overrides, path: tuple[str | int, ...], value: object
) -> None:
    expected = dataclasses.asdict(CONFIG)
    place: Any = expected
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] != value
    place[path[-1]] = value
    assert dataclasses.asdict(override(CONFIG, given)) == expected


def pools(*roles: Role) -> ClusterConfig:
    made = [PoolConfig(name=f"p{index}", role=role) for index, role in enumerate(roles)]
    return dataclasses.replace(CONFIG, pools=made)


def test_a_count_for_a_role_that_no_pool_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--decode: needs one pool with role decode.*is none"):
        override(pools(Role.MIXED), Overrides(decode=2))


def test_a_count_for_a_role_that_two_pools_have_is_refused_with_their_names() -> None:
    two = pools(Role.PREFILL, Role.PREFILL, Role.DECODE)
    with pytest.raises(ConfigError, match=r"--prefill: needs one pool.*there is p0, p1"):
        override(two, Overrides(prefill=2))
    assert override(two, Overrides(decode=4)).workers == 6


def test_an_option_beyond_its_keys_bound_is_refused_like_the_file() -> None:
    with pytest.raises(ConfigError, match=r"command line: pools\[1\]\.count: .*equal to 1000"):
        override(CONFIG, Overrides(decode=1001))


class Cluster:
    """Stands in for a LiveCluster that is up. Who reads its address, to say it, gets a SIGTERM."""

    stopped = 0

    @property
    def address(self) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "127.0.0.1:7999"

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers of before, afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, signals: None) -> tuple[Cluster, list[ClusterConfig]]:
    """A cluster that comes up at once, and is told to stop while `serve` says where it is."""
    del signals
    cluster, configs = Cluster(), []

    def start(config: ClusterConfig, progress: Any) -> Cluster:
        configs.append(config)
        progress("loading the model", 1, 3)
        return cluster

    monkeypatch.setattr(sut.LiveCluster, "start", start)
    return cluster, configs


def test_serve_says_where_and_what_to_try_and_stops_at_a_signal(
    started: tuple[Cluster, list[ClusterConfig]], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, configs = started
    sut.serve(None, Overrides(port=0))
    said = capsys.readouterr()
    assert said.out == ""  # stdout is for answers
    assert "serving smollm2-135m-instruct on 127.0.0.1:7999" in said.err
    assert "splitweave generate --address 127.0.0.1:7999 'Why is the sky blue?'" in said.err
    assert cluster.stopped == 1
    assert configs[0].gateway.port == 0


def test_serve_reads_the_file_it_is_given(
    started: tuple[Cluster, list[ClusterConfig]], tmp_path: Path
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[model]\npath = "demo"\n[[pools]]\nname = "only"\nrole = "mixed"\n')
    sut.serve(path, Overrides())
    assert [pool.name for pool in started[1][0].pools] == ["only"]


def test_a_failure_while_serving_still_stops_the_cluster(
    started: tuple[Cluster, list[ClusterConfig]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_console: object, line: str, **_options: object) -> None:
        if "serving" in line:
            raise BrokenPipeError

    monkeypatch.setattr(sut.Console, "print", closed)
    with pytest.raises(BrokenPipeError):
        sut.serve(None, Overrides())
    assert started[0].stopped == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_it_serves_interrupts_the_start(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    """It used to be heeded only when every worker had come up, 180 s at worst."""
    del signals

    def start(_config: ClusterConfig, _progress: Any) -> None:
        signal.raise_signal(number)
        raise AssertionError("the start went on")

    monkeypatch.setattr(sut.LiveCluster, "start", start)
    with pytest.raises(KeyboardInterrupt):
        sut.serve(None, Overrides())


def test_a_second_interrupt_is_the_default_one(signals: None) -> None:
    del signals
    stop = sut._stop_on_signal()
    signal.raise_signal(signal.SIGINT)
    assert stop.is_set()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_file_that_is_wrong_in_two_places_has_a_line_for_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[model]\npath = "demo"\nnam = "x"\n[[pools]]\nname = "m"\nrole = "mixt"\n')
    with pytest.raises(typer.Exit), reporting():
        sut.serve(path, Overrides())
    role, name = sorted(capsys.readouterr().err.splitlines(), key=lambda line: "model" in line)
    assert name.startswith(f"error: {path}: unknown key model.nam")
    assert role.startswith(f"error: {path}: pools[0].role: ")
