"""KV transport: copies byte payloads from worker to worker, beside the control RPC."""

from .backend import PairBackend
from .header import Announced, CopyResult, Endpoint, ParcelHeader, Way
from .limits import TransportLimits
from .payload import Landing, Payload
from .transport import Transport
from .ways import Ways, cpu_ways, network_ways

__all__ = [
    "Announced",
    "CopyResult",
    "Endpoint",
    "Landing",
    "PairBackend",
    "ParcelHeader",
    "Payload",
    "Transport",
    "TransportLimits",
    "Way",
    "Ways",
    "cpu_ways",
    "network_ways",
]
