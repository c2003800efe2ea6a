"""The gRPC server: both services, health, reflection, limits, and a bounded stop."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from ....proto import admin_pb2, inference_pb2
from ....proto.admin_pb2_grpc import add_AdminServicer_to_server
from ....proto.inference_pb2_grpc import add_InferenceServicer_to_server
from .admin import AdminService
from .inference import InferenceService
from .malformed import RefuseMalformed
from .seams import Operator, Served, Streams
from .validate import Validator

log = logging.getLogger(__name__)

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name
MESSAGE_BYTES_MAX = 16 * 1024 * 1024  # about four million tokens of text
TOKENIZER_THREADS = 2
STOP_CUT_S = 1.0  # what cut streams get to send their last status

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # else two servers share a port and neither knows
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A client whose machine vanished is noticed within 30 s; clients may ping each 5 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


class PortInUse(OSError):
    """Nothing can listen at this host and port."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: {reason}. Choose another port"
            " (--port, or gateway.port in the config; 0 picks a free one)"
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to listen. Port 0 picks a free one."""

    host: str
    port: int


class Front:
    """A running gRPC server. `address` is where it listens."""

    def __init__(
        self,
        server: aio.Server,
        health: HealthServicer,
        inference: InferenceService,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._server = server
        self._health = health
        self._inference = inference
        self._threads = threads
        self.address = ""

    @classmethod
    async def listen(
        cls, endpoint: Endpoint, served: Served, streams: Streams, operator: Operator
    ) -> "Front":
        """Starts serving `served`. Raises `PortInUse`."""
        server = aio.server(interceptors=[RefuseMalformed()], options=OPTIONS)
        threads = ThreadPoolExecutor(TOKENIZER_THREADS, "tokenize")
        inference = InferenceService(Validator(served, threads), served.language, streams)
        add_InferenceServicer_to_server(inference, server)
        add_AdminServicer_to_server(AdminService(served.name, operator), server)
        health = await _add_health(server)
        front = cls(server, health, inference, threads)
        port = _bind(server, endpoint)
        await server.start()
        front.address = f"{endpoint.host}:{port}"
        log.info("listening address=%s model=%s", front.address, served.name)
        return front

    async def stop(self, grace_s: float) -> None:
        """Stops within `grace_s` + 1 s: streams may end until then, then they are cut.

        A cut stream ends UNAVAILABLE; its client resumes at another gateway.
        """
        await self._health.enter_graceful_shutdown()
        self._inference.refuse_new()
        stopping = asyncio.ensure_future(self._server.stop(grace_s + STOP_CUT_S))
        await asyncio.wait({stopping}, timeout=grace_s)
        self._inference.cut_all()
        await stopping
        self._threads.shutdown(wait=False, cancel_futures=True)


def _bind(server: aio.Server, endpoint: Endpoint) -> int:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    try:
        return server.add_insecure_port(f"{host}:{endpoint.port}")
    except RuntimeError as error:
        raise PortInUse(endpoint.host, endpoint.port, "in use, or not an address here") from error


async def _add_health(server: aio.Server) -> HealthServicer:
    """Health for each service and for the whole (""), and reflection."""
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (INFERENCE, ADMIN, health_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    for name in ("", INFERENCE, ADMIN):
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    return health
