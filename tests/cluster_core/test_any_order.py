"""Whatever comes, in whatever order: streams are exact, tables are whole, nothing raises."""

from typing import Any

from control_plane import BLOCK_TOKENS, MS, Plane, S, held, key, report_of, request_of
from gateway_table import Front
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.cluster.policy.round_robin import RoundRobin
from splitweave.proto.cluster_events import (
    AfterDrain,
    AtDeadline,
    DrainAsked,
    GatewayDied,
    MigrateAsked,
    MoveEnded,
    RequestEnded,
    RoleAsked,
)
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, ToGateway, ToWorker
from splitweave.proto.gateway_events import (
    ClientGone,
    GenerateAsked,
    RejectCode,
    RequestAccepted,
    RequestDisplaced,
    RequestRejected,
    StopFound,
    TokenChunk,
    TokensEmitted,
)
from splitweave.proto.ids import Epoch, GatewayId, Incarnation, RequestId, WorkerId
from splitweave.proto.move import Stage
from splitweave.proto.requests import FinishReason, SampledToken
from splitweave.proto.views import Phase, Role
from splitweave.proto.worker_events import ResendAsked

# ---- one stream: chunks lost, doubled, reordered, from several epochs

LENGTH = 12
TOKENS = tuple(SampledToken(token_id=100 + index) for index in range(LENGTH))
CHUNKS = st.lists(
    st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 4), st.integers(0, 2)), max_size=40
)


def emitted(first: int, count: int, hop: int) -> TokensEmitted:
    end = min(first + count, LENGTH)
    chunk = TokenChunk(
        request_id=RequestId("r1"),
        epoch=Epoch(0, hop),
        first_index=first,
        tokens=TOKENS[first:end],
        finish=FinishReason.LENGTH if end == LENGTH else None,
    )
    return TokensEmitted(worker=key(f"d{hop}"), chunks=(chunk,))


def deliveries(effects: list[Any]) -> list[tuple[int, int]]:
    """(index, token) of all that the client got."""
    return [
        (effect.first_index + offset, token.token_id)
        for effect in effects
        if isinstance(effect, DeliverTokens)
        for offset, token in enumerate(effect.tokens)
    ]


@settings(max_examples=300, deadline=None)
@given(chunks=CHUNKS)
def test_a_stream_is_delivered_exactly_once_and_in_order(
    chunks: list[tuple[int, int, int]],
) -> None:
    front = Front()
    front.tell(GenerateAsked(request=request_of("r1", max_tokens=LENGTH)))
    for first, count, hop in chunks:
        front.tell(emitted(first, count, hop))
    # Then the network heals: whoever is newest answers what it is asked for.
    for _ in range(LENGTH + 1):
        if not front.core.knows(RequestId("r1")):
            break
        front.wait(300 * MS)
        front.tell(emitted(LENGTH - 1, 1, 2))
        for effect in list(front.effects):
            if isinstance(effect, ToWorker) and isinstance(effect.event, ResendAsked):
                front.tell(emitted(effect.event.from_index, 3, 2))
    assert deliveries(front.history) == [(index, 100 + index) for index in range(LENGTH)]
    assert sum(isinstance(effect, EndStream) for effect in front.history) == 1
    assert front.timers == {}


# ---- a gateway under any facts

EPOCHS = st.builds(Epoch, st.integers(0, 3), st.integers(0, 2))
NAMES = st.sampled_from([RequestId(f"r{n}") for n in range(3)])
WORKERS = st.sampled_from([key("p0"), key("d0"), key("d1", 2)])


@st.composite
def gateway_facts(draw: st.DrawFn) -> Any:
    name, epoch, worker = draw(NAMES), draw(EPOCHS), draw(WORKERS)
    first, count = draw(st.integers(0, 6)), draw(st.integers(0, 3))
    chunk = TokenChunk(
        request_id=name,
        epoch=epoch,
        first_index=first,
        tokens=tuple(SampledToken(token_id=first + i) for i in range(count)),
        finish=draw(st.sampled_from([None, None, FinishReason.STOP])),
    )
    deadline_ns = draw(st.sampled_from([None, 5 * S]))
    facts: list[Any] = [
        GenerateAsked(request=request_of(name, max_tokens=8), deadline_ns=deadline_ns),
        ClientGone(request_id=name),
        StopFound(request_id=name, output_tokens=1),
        RequestAccepted(request_id=name, epoch=epoch, worker=draw(st.none() | WORKERS)),
        RequestDisplaced(request_id=name, epoch=epoch, reason="lost"),
        RequestRejected(
            request_id=name,
            epoch=epoch,
            code=RejectCode.RESOURCE_EXHAUSTED,
            message="full",
            retry_after_ns=draw(st.sampled_from([None, 1 * S])),
        ),
    ]
    return draw(st.sampled_from([*facts, *[TokensEmitted(worker=worker, chunks=(chunk,))] * 6]))


@settings(max_examples=150, deadline=None)
@given(facts=st.lists(st.tuples(gateway_facts(), st.integers(0, 4 * S)), max_size=40))
def test_a_gateway_stands_any_facts_and_every_stream_ends(facts: list[tuple[Any, int]]) -> None:
    front = Front(attempts_max=3, stalls_max=1, submits_max=3, streams_max=2)
    open_ids: dict[RequestId, int] = {}
    step = front.core.step

    def watched(event: Any, now_ns: int) -> list[Any]:
        effects = step(event, now_ns)
        for effect in effects:
            match effect:
                case DeliverTokens(request_id=name, first_index=first, tokens=tokens):
                    assert first == open_ids.get(name, 0)
                    open_ids[name] = first + len(tokens)
                case EndStream(request_id=name) | FailStream(request_id=name):
                    open_ids.pop(name, None)
        return effects

    front.core.step = watched  # type: ignore[method-assign]
    for fact, gap_ns in facts:
        front.wait(gap_ns)
        front.tell(fact)
    front.wait(1000 * S)  # nobody answers any more
    assert len(front.core) == 0
    assert front.timers == {}


# ---- a controller under any facts

LIMITS = ClusterLimits(
    queue_len_max=3,
    requests_max=6,
    asks_max=2,
    ended_max=2,
    deaths_max=2,
    workers_max=4,
    gateways_max=1,
    moves_per_worker_max=1,
)
WORKER_NAMES = ["p0", "d0", "d1", "m0"]


@st.composite
def held_requests(draw: st.DrawFn) -> Any:
    output_tokens = draw(st.integers(0, 5))
    return held(
        draw(NAMES),
        draw(st.sampled_from(list(Phase))),
        epoch=draw(EPOCHS),
        gateway_id=GatewayId(draw(st.sampled_from(["g0", "g1"]))),
        known_tokens=100 + output_tokens,
        output_tokens=output_tokens,
    )


VIEWS = st.fixed_dictionaries(
    {
        "requests": st.lists(held_requests(), max_size=3, unique_by=lambda h: h.request_id),
        "draining": st.booleans(),
        "blocks_held": st.sampled_from([0, 0, 995]),
        "blocks_quarantined": st.sampled_from([0, 5]),
        "role": st.sampled_from(list(Role)),
    }
)


class AnyController:
    """Applies drawn facts to a Plane; moves are ended by what was ordered."""

    def __init__(self, draw: Any, *, round_robin: bool) -> None:
        self.draw = draw
        self.plane = Plane(limits=LIMITS, policy=RoundRobin() if round_robin else None)
        self.orders: list[Any] = []

    def step(self) -> None:
        draw, plane = self.draw, self.plane
        plane.after(draw(st.sampled_from([0, 50 * MS, 600 * MS, 2 * S])))
        name, worker = draw(NAMES), draw(st.sampled_from(WORKER_NAMES))
        incarnation = draw(st.integers(1, 2))
        epoch, gateway = draw(EPOCHS), GatewayId(draw(st.sampled_from(["g0", "g1"])))
        fact = draw(st.integers(0, 13))
        match fact:
            case 0 | 1:
                view = dict(draw(VIEWS))
                plane.register(
                    worker, incarnation, view=view | {"requests": tuple(view["requests"])}
                )
            case 2 | 3 | 4 if key(worker, incarnation) in plane.infos:
                view = dict(draw(VIEWS))
                plane.beat(worker, *view.pop("requests"), incarnation=incarnation, **view)
            case 5 | 6 | 7:
                plane.arrive(name, epoch=epoch, gateway_id=gateway)
            case 8:
                plane.drop(name, gateway)
            case 9:
                plane.lose(worker, incarnation)
            case 10:
                ask: Any = draw(
                    st.sampled_from(
                        [
                            DrainAsked(ask_id="a", worker_id=WorkerId(worker)),
                            DrainAsked(
                                ask_id="f",
                                worker_id=WorkerId(worker),
                                life=Incarnation(incarnation),
                                within_ns=1 * S,
                                at_deadline=AtDeadline.RECOMPUTE,
                                then=AfterDrain.RESTART,
                            ),
                            RoleAsked(ask_id="b", worker_id=WorkerId(worker), role=Role.MIXED),
                            RoleAsked(ask_id="c", worker_id=WorkerId(worker), role=Role.PREFILL),
                            MigrateAsked(ask_id="d", request_id=name),
                            MigrateAsked(ask_id="e", request_id=name, target=WorkerId(worker)),
                            GatewayDied(gateway_id=gateway),
                        ]
                    )
                )
                plane.tell(ask)
            case 11:
                refused = draw(st.sampled_from(["", "full"]))
                at = key(worker, incarnation)
                plane.tell(RequestEnded(request_id=name, epoch=epoch, worker=at, refused=refused))
            case 12 if self.orders:
                order = draw(st.sampled_from(self.orders))
                outcome = draw(st.sampled_from([Stage.COMMITTED, Stage.ABORTED]))
                plane.tell(MoveEnded(report=report_of(order, outcome, epoch=epoch)))
            case _:
                plane.tick()
        self.orders += [move.order for move in plane.core._cluster.moves.all()]


@settings(max_examples=120, deadline=None)
@given(data=st.data(), round_robin=st.booleans(), steps=st.integers(1, 40))
def test_a_controller_stands_any_facts_and_stays_whole(
    data: st.DataObject, round_robin: bool, steps: int
) -> None:
    world = AnyController(data.draw, round_robin=round_robin)
    for _ in range(steps):
        world.step()
    # Silence: every worker dies, every gateway is told, and nothing is left but the queue.
    plane = world.plane
    for _ in range(20):
        plane.after(1 * S).tick()
    status = plane.core.status(plane.now_ns)
    assert all(worker.state in ("dead", "retired") for worker in status.workers)
    assert status.moves == ()
    assert all(request.state == "queued" for request in status.requests)


def test_the_same_facts_give_the_same_effects() -> None:
    def run() -> list[list[Any]]:
        plane, said = Plane("p0", "p1", "d0", "d1"), []
        for n in range(20):
            plane.after(30 * MS).arrive(f"r{n}", block_hashes=(n % 3, 7))
            said.append(plane.effects)
            plane.beat("d0", held(f"r{n}", epoch=Epoch(0, 1)), cached=(n % 3, 7))
            said.append(plane.effects)
            plane.tick()
            said.append(plane.effects)
        return said

    assert run() == run()


def test_a_fresh_core_has_no_effects_to_repeat() -> None:
    core = ClusterCore(LIMITS, RoundRobin(), BLOCK_TOKENS)
    first = core.step(MigrateAsked(ask_id="a", request_id=RequestId("r")), 0)
    second = core.step(GatewayDied(gateway_id=GatewayId("g")), 0)
    assert len(first) == 1
    assert second == []
    assert not any(isinstance(effect, ToGateway) for effect in first)
