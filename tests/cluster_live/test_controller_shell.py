"""A whole controller without Ray: what it is told, whom it tells, whom it ends."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import ray
from loop_threads import ending, on_loop, started
from splitweave.cluster.live import controller as live
from splitweave.cluster.live.config import ControllerConfig
from splitweave.cluster.live.controller import Controller, ControllerActor
from splitweave.cluster.live.serve import default_config
from splitweave.cluster.live.setups import controller_setup
from splitweave.proto.cluster_events import (
    DrainAsked,
    MigrateAsked,
    WorkerRegistered,
    WorkerViewed,
)
from splitweave.proto.effects import AnswerAsk
from splitweave.proto.ids import GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.views import Role, Speed, WorkerInfo, WorkerView
from splitweave.proto.worker_events import RoleAssigned, ViewAsked
from stand_ins import Called, Mailbox

# Workers here have no heart: none is to die of it while a test is under way.
PATIENT = dataclasses.replace(
    default_config(), controller=ControllerConfig(suspect_after_s=600.0, dead_after_s=900.0)
)
SETUP = controller_setup(
    PATIENT, (WorkerId("decode-0"), WorkerId("decode-1")), (GatewayId("gateway-0"),)
)
WAIT_S = 60.0
SPEED = Speed(iteration_ns=1.0, token_ns=1.0)


class Handle:
    """A worker's or a gateway's actor."""

    def __init__(self, pid: Callable[[], int] = lambda: 1) -> None:
        self.deliver = Called(lambda: None)
        self.look = Called(lambda: (pid(), "127.0.0.1:7070", 3))


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setattr(live, "Post", lambda _namespace: mailbox)
    return mailbox


@pytest.fixture
def controller(post: Mailbox) -> Iterator[Controller]:
    del post
    with ending(Controller(SETUP)) as shell:
        started(shell)
        yield shell


def key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))


def view(name: str, draining: bool = False) -> WorkerView:
    return WorkerView(
        key=key(name), role=Role.MIXED, observed_at_ns=0, draining=draining, waiting=0, running=0,
        backlog_tokens=0, blocks_total=8, blocks_free=8, blocks_held=0, blocks_cached=0,
        blocks_leased=0, blocks_quarantined=0, speed=SPEED,
        requests=(),
    )  # fmt: skip


def registered(name: str) -> WorkerRegistered:
    info = WorkerInfo(
        key=key(name), role=Role.MIXED, pool="p", node="n", pid=3, host="h", port=1,
        blocks_total=8, block_tokens=16, block_bytes=64, context_tokens_max=64, speed=SPEED,
    )  # fmt: skip
    return WorkerRegistered(info=info, view=view(name), cached=())


def told(shell: Controller, post: Mailbox, to: str) -> list[type[Any]]:
    """What the core has ordered for one party once all mail until now was taken."""
    return on_loop(shell, lambda: [type(event) for event in post.to(to)])  # type: ignore[no-any-return]


def test_a_worker_that_registers_gets_its_role_and_is_in_the_status(
    controller: Controller, post: Mailbox
) -> None:
    controller.deliver([registered("decode-0")])
    assert told(controller, post, "decode-0") == [RoleAssigned]
    (worker,) = controller.status().workers
    assert (worker.worker_id, worker.state, worker.pid) == ("decode-0", "alive", 3)


def test_a_batch_of_mail_is_taken_in_order(controller: Controller, post: Mailbox) -> None:
    controller.deliver([registered("decode-0"), registered("decode-1")])
    told(controller, post, "decode-1")
    assert [worker.worker_id for worker in controller.status().workers] == ["decode-0", "decode-1"]


def test_an_answer_goes_to_the_gateway_that_asked(controller: Controller, post: Mailbox) -> None:
    for gateway in ("gateway-0", "gateway-7"):
        ask_id = f"{gateway}/abc"
        controller.deliver([MigrateAsked(ask_id=ask_id, request_id=RequestId("r9"), target=None)])
        assert told(controller, post, gateway) == [AnswerAsk]
        (answer,) = post.to(gateway)
        assert (answer.ask_id, answer.error) == (ask_id, "unknown request r9")


def test_a_drained_worker_ends_for_good(
    controller: Controller, post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Ray would bring it back, and the drain would be undone."""
    killed: list[tuple[Any, bool]] = []
    ended = threading.Event()

    def kill(handle: Any, *, no_restart: bool) -> None:
        killed.append((handle, no_restart))
        ended.set()

    monkeypatch.setattr(ray, "kill", kill)
    handle = post.handles["worker/decode-0"] = Handle()
    controller.deliver([registered("decode-0"), registered("decode-1")])
    controller.deliver([DrainAsked(ask_id="gateway-0/1", worker_id=WorkerId("decode-0"))])
    empty = view("decode-0", draining=True)
    controller.deliver([WorkerViewed(view=empty, number=1)])
    assert ended.wait(WAIT_S)
    assert killed == [(handle, True)]
    assert told(controller, post, "gateway-0") == [AnswerAsk]
    assert post.to("gateway-0")[0].error == ""


def test_a_worker_that_does_not_load_in_time_is_ended_and_begins_anew(
    post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked: a life that is stuck while it loads answers."""
    killed: list[tuple[Any, bool]] = []
    ended = threading.Event()

    def kill(handle: Any, *, no_restart: bool) -> None:
        killed.append((handle, no_restart))
        ended.set()

    monkeypatch.setattr(ray, "kill", kill)
    handle = post.handles["worker/decode-0"] = Handle()
    limits = replace(SETUP.limits, load_ns_max=50_000_000, restarts_max=1)
    with ending(Controller(replace(SETUP, limits=limits))) as shell:
        started(shell)
        assert ended.wait(10.0)
    assert killed == [(handle, False)]


def test_mail_before_the_first_step_is_kept(post: Mailbox) -> None:
    with ending(Controller(SETUP)) as shell:
        shell.deliver([registered("decode-0")])
        started(shell)
        assert told(shell, post, "decode-0") == [RoleAssigned]


def test_a_controller_that_starts_again_asks_the_workers_there_are(post: Mailbox) -> None:
    handle = post.handles["worker/decode-1"] = Handle()
    with ending(Controller(SETUP)) as shell:
        started(shell)
    assert handle.deliver.calls == [(None, [ViewAsked()])]


def test_a_gateway_whose_process_is_gone_is_reported_once_it_is(
    post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests end everywhere; a gateway that answers is left alone."""
    monkeypatch.setattr(live, "GATEWAY_WATCH_S", 0.001)
    asked, died = [], threading.Event()

    def pid() -> int:
        asked.append(died.is_set())
        if len(asked) > 3:
            raise ray.exceptions.RayActorError
        return 1

    steps: list[Any] = []
    step = live.ClusterCore.step

    def watched(core: Any, event: Any, now_ns: int) -> Any:
        steps.append(event)
        if isinstance(event, live.GatewayDied):
            died.set()
        return step(core, event, now_ns)

    monkeypatch.setattr(live.ClusterCore, "step", watched)
    post.handles["gateway/gateway-0"] = Handle(pid)
    with ending(Controller(SETUP)) as shell:
        started(shell)
        assert died.wait(WAIT_S)
    assert asked[:4] == [False] * 4
    (first, *_) = [event for event in steps if isinstance(event, live.GatewayDied)]
    assert first.gateway_id == "gateway-0"


def test_a_gateway_that_was_replaced_between_two_looks_has_died(
    post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GATEWAY_WATCH_S", 0.001)
    pids, died = iter([1, 1, 2]), threading.Event()
    step = live.ClusterCore.step

    def watched(core: Any, event: Any, now_ns: int) -> Any:
        if isinstance(event, live.GatewayDied):
            died.set()
        return step(core, event, now_ns)

    monkeypatch.setattr(live.ClusterCore, "step", watched)
    post.handles["gateway/gateway-0"] = Handle(lambda: next(pids, 2))
    with ending(Controller(SETUP)) as shell:
        started(shell)
        assert died.wait(WAIT_S)


def test_the_status_shows_each_gateway_and_how_it_is(
    post: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "GATEWAY_WATCH_S", 0.001)
    looks = threading.Event()
    alive = [True]

    def pid() -> int:
        looks.set()
        if not alive[0]:
            raise ray.exceptions.RayActorError
        return 7

    def until(state: str) -> Any:
        for _ in range(1000):
            (gateway,) = shell.status().gateways
            if gateway.state == state:
                return gateway
            looks.clear()
            looks.wait(1.0)
        raise AssertionError(state)

    with ending(Controller(SETUP)) as shell:
        started(shell)
        assert until("starting").address == ""
        post.handles["gateway/gateway-0"] = Handle(pid)
        serving = until("serving")
        assert (serving.address, serving.streams, serving.pid) == ("127.0.0.1:7070", 3, 7)
        alive[0] = False
        assert until("dead").gateway_id == "gateway-0"


def test_the_actor_hands_everything_to_its_controller(post: Mailbox) -> None:
    actor = ControllerActor(SETUP)
    with ending(actor._controller) as shell:
        started(shell)
        actor.deliver([registered("decode-0")])
        assert told(shell, post, "decode-0") == [RoleAssigned]
        assert len(actor.status().workers) == 1
