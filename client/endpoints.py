"""Where the gateways are, and how their channels behave."""

import re
from collections.abc import Sequence

from .errors import InvalidRequest, Violation

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
PORT = re.compile(r"[0-9]{1,5}")
CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A gateway that stands still, or whose machine vanished, is noticed within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A gateway that comes back is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Despite its name: how long one attempt to connect may take. A busy machine needs it.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)


def parse_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """One or more host:port, as a sequence or separated by commas. Raises InvalidRequest."""
    parts = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    found = tuple(part.strip() for part in parts)
    for address in found or ("",):
        host, _, port = address.rpartition(":")
        if not host or not PORT.fullmatch(port) or not 0 < int(port) < 65536:
            problem = f"is {address!r}; host:port with a port of 1 to 65535, as in 127.0.0.1:7070"
            raise InvalidRequest(f"address: {problem}", (Violation("address", problem),))
    return found
