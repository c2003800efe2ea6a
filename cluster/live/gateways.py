"""The gateways of a cluster: how many, under which names, and at which ports.

A gateway that dies starts again at its own port, so that port is settled before
it is first made, also where the config leaves the choice to us.
"""

import contextlib
import random
import socket
from dataclasses import replace

from ...proto.ids import GatewayId
from .config import ClusterConfig, ConfigError
from .gateway_setup import GatewaySetup
from .setups import gateway_setup

# Below the ports that systems hand out by themselves (32768 and up on Linux): what is
# free here now is free when the gateway comes up, and when it comes up again.
FREE_PORTS = range(20_000, 32_000)
TRIES_MAX = 200


def gateway_ids(config: ClusterConfig) -> tuple[GatewayId, ...]:
    """gateway-0, gateway-1, …"""
    return tuple(GatewayId(f"gateway-{index}") for index in range(config.gateway.count))


def gateway_setups(config: ClusterConfig) -> dict[GatewayId, GatewaySetup]:
    """What each gateway needs. Raises ConfigError."""
    names, port = gateway_ids(config), config.gateway.port
    ports = [port + n for n in range(len(names))] if port else free_ports(len(names))
    return {
        name: replace(gateway_setup(config, name), port=at)
        for name, at in zip(names, ports, strict=True)
    }


def free_ports(count: int) -> list[int]:
    """As many ports that nobody listens at. Raises ConfigError."""
    found: list[int] = []
    for port in random.sample(FREE_PORTS, TRIES_MAX):
        if len(found) < count and _free(port):
            found.append(port)
    if len(found) < count:
        limits = f"{FREE_PORTS.start} to {FREE_PORTS.stop - 1}"
        raise ConfigError(f"gateway.port: found no free port among {limits}; name one")
    return found


def _free(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
