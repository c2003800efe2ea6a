"""KV transport: copies byte payloads from worker to worker, beside the control RPC."""

from .backend import PairBackend
from .header import CopyHeader, CopyResult, Endpoint
from .limits import TransportLimits
from .transport import Transport

__all__ = ["CopyHeader", "CopyResult", "Endpoint", "PairBackend", "Transport", "TransportLimits"]
