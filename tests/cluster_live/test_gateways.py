"""How many gateways there are, and at which ports."""

import contextlib
import socket

import pytest
from splitweave.cluster.live import gateways as sut
from splitweave.cluster.live.config import ClusterConfig, ConfigError
from splitweave.proto.toml_file import build

POOL = {"name": "m", "role": "mixed"}


def config(**gateway: int) -> ClusterConfig:
    tables = {"model": {"path": "demo"}, "pools": [POOL], "gateway": gateway}
    return build(ClusterConfig, tables, "cluster.toml")


def test_gateways_are_numbered_and_listen_at_one_port_after_the_other() -> None:
    setups = sut.gateway_setups(config(count=3, port=7100))
    assert [(str(name), setup.port) for name, setup in setups.items()] == [
        ("gateway-0", 7100),
        ("gateway-1", 7101),
        ("gateway-2", 7102),
    ]
    assert all(setup.gateway_id == name for name, setup in setups.items())


def test_free_ports_are_settled_before_the_gateways_are_made_and_differ() -> None:
    ports = [setup.port for setup in sut.gateway_setups(config(count=8, port=0)).values()]
    assert len(set(ports)) == 8
    assert all(port in sut.FREE_PORTS for port in ports)


def test_a_port_that_is_in_use_is_not_free() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("", 0))
        taken.listen()
        assert not sut._free(taken.getsockname()[1])


def test_no_free_port_is_said_with_where_it_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sut, "_free", lambda _port: False)
    with pytest.raises(ConfigError, match="found no free port among 20000 to 31999; name one"):
        sut.gateway_setups(config(port=0))


def test_ports_beyond_the_last_one_are_refused() -> None:
    assert len(sut.gateway_setups(config(port=65534, count=2))) == 2
    with pytest.raises(ConfigError, match=r"port \+ count - 1 \(65536\) exceeds 65535"):
        config(port=65535, count=2)
