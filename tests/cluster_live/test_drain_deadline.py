"""Two who keep a drain's deadline, and whose word the operator gets."""

from typing import Any

import pytest
from scripted_front import PREFILL
from splitweave.cluster.live.front import admin
from splitweave.cluster.live.front.admin import AdminService
from splitweave.cluster.live.gateway import LiveOperator
from splitweave.proto import admin_pb2 as pb
from splitweave.proto.ids import GatewayId
from stand_ins import Called, Mailbox


class Aborted(Exception):
    """What the call ended with."""


class Call:
    """Stands in for a gRPC context."""

    async def abort(self, code: Any, message: str, _metadata: Any) -> None:
        raise Aborted(code.name, message)


async def test_a_drain_whose_deadline_is_over_is_not_called_a_refusal(
    cluster_picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the service and the operator keep that deadline; the service's word counts."""
    monkeypatch.setattr(admin, "ANSWER_S", 0.02)
    post = Mailbox()
    sut = LiveOperator(GatewayId("g"), post)  # type: ignore[arg-type]
    post.handles["controller"] = type("Handle", (), {"status": Called(lambda: cluster_picture)})
    ask = pb.DrainRequest(worker_id=PREFILL.worker_id, deadline_s=0.02)
    for _ in range(5):
        with pytest.raises(Aborted) as ended:
            await AdminService("m", sut).Drain(ask, Call())  # type: ignore[arg-type]
        code, message = ended.value.args
        assert (code, message) == ("DEADLINE_EXCEEDED", "prefill-0 is not empty after 0.02 s")
