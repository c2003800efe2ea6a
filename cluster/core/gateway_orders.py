"""What a gateway orders, in the words of the protocol: one function per effect."""

from ...proto.cluster_events import RequestArrived, RequestDropped
from ...proto.effects import (
    DeliverTokens,
    EndStream,
    FailStream,
    GatewayEffect,
    ToController,
    ToWorker,
)
from ...proto.gateway_events import RejectCode
from ...proto.ids import Epoch, GatewayId, RequestId, WorkerKey
from ...proto.requests import FinishReason, SampledToken
from ...proto.timers import ClearTimer, SetTimer, TimerKey
from ...proto.worker_events import RequestCancelled, ResendAsked, StreamAcked
from .requests import through
from .stream import Stream


class GatewayOrders:
    """The effects of the step in progress, in order."""

    def __init__(self, gateway_id: GatewayId) -> None:
        self._gateway_id = gateway_id
        self.out: list[GatewayEffect] = []

    def ask(self, stream: Stream, now_ns: int) -> None:
        """Submit the request as it stands; of an epoch that is known it is a question."""
        self.out.append(ToController(RequestArrived(request=stream.resubmission(now_ns))))

    def drop(self, request_id: RequestId) -> None:
        """The controller need not keep it."""
        dropped = RequestDropped(request_id=request_id, gateway_id=self._gateway_id)
        self.out.append(ToController(dropped))

    def deliver(self, stream: Stream, tokens: tuple[SampledToken, ...], worker: WorkerKey) -> None:
        """The client gets its next tokens."""
        self.out.append(
            DeliverTokens(
                request_id=stream.request_id,
                first_index=stream.next_index,
                tokens=tokens,
                worker=worker,
            )
        )

    def ask_resend(self, stream: Stream) -> None:
        """Whoever runs it shall send from the first missing token on."""
        if stream.worker is not None:
            event = ResendAsked(request_id=stream.request_id, from_index=stream.next_index)
            self.out.append(ToWorker(stream.worker, event))

    def ack(self, stream: Stream) -> None:
        """The worker that sent the last token may forget the request."""
        if stream.worker is not None:
            acked = StreamAcked(request_id=stream.request_id, gateway_id=self._gateway_id)
            self.out.append(ToWorker(stream.worker, acked))

    def cancel_at_worker(self, stream: Stream) -> None:
        """The worker that was heard last shall stop. The controller tells all others."""
        if stream.worker is not None:
            cancelled = RequestCancelled(
                request_id=stream.request_id,
                epoch=through(stream.newest.attempt),
                gateway_id=self._gateway_id,
            )
            self.out.append(ToWorker(stream.worker, cancelled))

    def stop_worker(self, worker: WorkerKey, request_id: RequestId, epoch: Epoch) -> None:
        """It sends tokens of a stream that is not open here."""
        gateway_id = self._gateway_id
        acked = StreamAcked(request_id=request_id, gateway_id=gateway_id)
        cancelled = RequestCancelled(request_id=request_id, epoch=epoch, gateway_id=gateway_id)
        self.out += [ToWorker(worker, acked), ToWorker(worker, cancelled)]

    def end(self, stream: Stream, finish: FinishReason, output_tokens: int) -> None:
        """The client's stream is complete."""
        account = stream.account(output_tokens)
        self.out.append(EndStream(request_id=stream.request_id, finish=finish, account=account))

    def fail(
        self, request_id: RequestId, code: RejectCode, message: str, retry_after_ns: int | None
    ) -> None:
        """The client's stream ends with an error."""
        self.out.append(
            FailStream(
                request_id=request_id, code=code, message=message, retry_after_ns=retry_after_ns
            )
        )

    def set_timer(self, kind: str, request_id: RequestId, at_ns: int) -> None:
        """One timer of each kind per stream."""
        self.out.append(SetTimer(TimerKey(kind, request_id), at_ns))

    def clear_timer(self, kind: str, request_id: RequestId) -> None:
        """That timer is not wanted any more."""
        self.out.append(ClearTimer(TimerKey(kind, request_id)))
