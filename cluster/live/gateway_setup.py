"""What a gateway is constructed with."""

from dataclasses import dataclass

from ...proto.ids import GatewayId
from ..core.limits import GatewayLimits


@dataclass(frozen=True, kw_only=True)
class GatewaySetup:
    """All a gateway needs to start, and to start again.

    `context_tokens_max` 0 means the model's own limit; `record` empty: no recording.
    """

    namespace: str
    gateway_id: GatewayId
    limits: GatewayLimits
    model_path: str
    model_name: str
    context_tokens_max: int
    block_tokens: int
    host: str
    port: int
    record: str
