"""KV transport: copies byte payloads from worker to worker, beside the control RPC."""

from .backend import PairBackend
from .header import Announced, CopyResult, Endpoint, ParcelHeader
from .limits import TransportLimits
from .payload import Landing, Payload
from .transport import Transport

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
]
