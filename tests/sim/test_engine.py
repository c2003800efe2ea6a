"""The simulated engine: iterations, copies, leases, and what lies in the blocks."""

from typing import Any

import pytest
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.effects import CloseLease, OpenLease, RunIteration
from splitweave.proto.ids import (
    BlockId,
    GatewayId,
    Incarnation,
    MoveId,
    RequestId,
    WorkerId,
    WorkerKey,
)
from splitweave.proto.move import Copy
from splitweave.proto.requests import Request, SamplingParams
from splitweave.proto.views import Role, Speed, WorkerInfo
from splitweave.proto.worker_events import (
    BlocksLanded,
    CopyFailed,
    CopySent,
    IterationDone,
    LeaseOpened,
)
from splitweave.sim.content import BlockContent
from splitweave.sim.costs.plain import Affine
from splitweave.sim.engine import Engine
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.links import Links, LinkSpec, LinkTrouble
from splitweave.sim.queue import EventQueue
from splitweave.sim.shell import QueueShell
from splitweave.sim.streams import TrueStream

SIZE, LAYERS = 4, 2
MOVE = MoveId("m")
OPEN, CLOSE = OpenLease(move_id=MOVE, lease=1), CloseLease(move_id=MOVE, lease=1)
REQUEST = Request(
    request_id=RequestId("r"), gateway_id=GatewayId("g"), token_ids=tuple(range(100, 110)),
    max_tokens=20, sampling=SamplingParams(seed=5),
)  # fmt: skip


class Pair:
    """Two workers, a and b, one link of 1 byte/ns, and a log of what each core was told."""

    def __init__(self, token_ns: int = 0) -> None:
        self.token_ns = token_ns
        self.queue = EventQueue()
        self.links = Links(1, self.queue)
        self.truth = TrueStream(REQUEST)
        self.engines: dict[WorkerKey, Engine] = {}
        self.log: list[tuple[int, str, Any]] = []
        self.a, self.b = (self._start(name) for name in "ab")

    def engine(self, key: WorkerKey) -> Engine | None:
        return self.engines.get(key)

    def stream(self, _: RequestId) -> TrueStream:
        return self.truth

    def computing(self, batch: Any, begins_ns: int, ends_ns: int) -> None: ...

    def _start(self, name: str) -> Engine:
        key = WorkerKey(WorkerId(name), Incarnation(1))
        self.links.attach(key.worker_id, LinkSpec(bytes_per_s=1e9, latency_ns=10))
        cost = Affine(iteration_base_ns=1000, token_ns=self.token_ns)
        content = BlockContent(16, SIZE, LAYERS)
        engine = Engine(_info(key), LAYERS, cost, content, self)

        def post(event: Any) -> None:
            self.log.append((self.queue.now_ns, name, event))

        engine.connect(self.queue, self.links, post, lambda action, argument: action(argument))
        self.engines[key] = engine
        return engine

    def prefill(self, engine: Engine, copies: tuple[Copy, ...] = ()) -> None:
        """All of the request's prompt in one iteration, in blocks 0, 1, 2."""
        engine.iterate(RunIteration(batch=_batch(REQUEST.token_ids, 0, (0, 1, 2)), copies=copies))

    def decode(self, engine: Engine, table: tuple[int, ...]) -> int:
        """The first decode over `table`; the token it draws."""
        first = self.truth.output(0)
        engine.iterate(RunIteration(batch=_batch((first,), 10, table)))
        self.queue.run_until(self.queue.now_ns + 5000)
        token = self.log[-1][2].sampled[0]
        assert token is not None
        return int(token.token_id)

    def kinds(self) -> list[tuple[int, str, str]]:
        return [(at, name, type(event).__name__) for at, name, event in self.log]


def _info(key: WorkerKey) -> WorkerInfo:
    return WorkerInfo(
        key=key,
        role=Role.MIXED,
        pool="p",
        node="n",
        pid=1,
        host="h",
        port=1,
        blocks_total=16,
        block_tokens=SIZE,
        block_bytes=200,
        context_tokens_max=64,
        speed=Speed(iteration_ns=1.0, token_ns=1.0),
    )


def _batch(token_ids: tuple[int, ...], start: int, table: tuple[int, ...]) -> Batch:
    chunk = Chunk(
        request_id=REQUEST.request_id,
        token_ids=token_ids,
        start=start,
        block_table=tuple(BlockId(block) for block in table),
        draw=Draw(params=REQUEST.sampling, position=start + len(token_ids)),
    )
    return Batch(iteration=1, chunks=(chunk,))


def _copy(pair: Pair, source: tuple[int, ...], target: tuple[int, ...], **changes: Any) -> Copy:
    values: dict[str, Any] = {
        "copy_id": "m/0",
        "move_id": MOVE,
        "lease": 1,
        "target_key": pair.b.key,
        "first_layer": 0,
        "last_layer": LAYERS,
        "source_blocks": tuple(BlockId(block) for block in source),
        "target_blocks": tuple(BlockId(block) for block in target),
    }
    values |= changes
    return Copy(target=values.pop("target_key"), **values)


def test_an_iteration_takes_what_it_costs_and_draws_the_right_token() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(5000)
    (at_ns, _, event), *_ = pair.log
    assert (at_ns, type(event)) == (1000, IterationDone)
    assert event.sampled[0].token_id == pair.truth.output(0)
    assert pair.decode(pair.a, (0, 1, 2)) == pair.truth.output(1)


@pytest.mark.parametrize("table", [(1, 0, 2), (0, 1, 7), (4, 5, 6)])
def test_reading_blocks_that_are_not_its_own_draws_a_wrong_token(table: tuple[int, ...]) -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(5000)
    assert pair.decode(pair.a, table) != pair.truth.output(1)


def test_a_copied_sequence_decodes_the_same_elsewhere() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OPEN)
    pair.a.start(_copy(pair, (0, 1, 2), (9, 4, 6)))
    pair.queue.run_until(5000)
    assert pair.kinds()[1:] == [(2600, "a", "CopySent"), (2610, "b", "BlocksLanded")]
    assert pair.decode(pair.b, (9, 4, 6)) == pair.truth.output(1)


def test_layers_start_when_they_are_stored_and_both_are_needed() -> None:
    pair = Pair()
    pair.b.open_lease(OPEN)
    first = _copy(pair, (0, 1, 2), (0, 1, 2), last_layer=1)
    second = _copy(pair, (0, 1, 2), (0, 1, 2), first_layer=1, copy_id="m/1")
    pair.prefill(pair.a, (first, second))
    pair.queue.run_until(1050)
    half = [(500 + 300, "a", "CopySent"), (810, "b", "BlocksLanded")]
    assert pair.kinds() == [*half, (1000, "a", "IterationDone")]
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) == pair.truth.output(1)


def test_one_layer_alone_is_not_enough() -> None:
    pair = Pair()
    pair.b.open_lease(OPEN)
    pair.prefill(pair.a, (_copy(pair, (0, 1, 2), (0, 1, 2), last_layer=1),))
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_a_landing_under_a_closed_lease_touches_nothing() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.b.open_lease(OPEN)
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    pair.b.close_lease(CLOSE)
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_a_copy_to_a_dead_worker_fails_and_one_from_a_dead_worker_never_lands() -> None:
    pair = Pair()
    pair.a.start(_copy(pair, (0,), (0,)))
    pair.engines.pop(pair.a.key)
    pair.a.close()
    pair.queue.run_until(5000)
    assert pair.log == []
    pair.b.start(_copy(pair, (0,), (0,), target_key=pair.a.key))
    assert [type(event) for _, _, event in pair.log] == [CopyFailed]


def test_bad_links_end_in_failures_on_the_right_side() -> None:
    pair = Pair()
    pair.links.trouble(LinkTrouble(fail=1.0))
    pair.a.start(_copy(pair, (0,), (0,)))
    pair.queue.run_until(2000)
    assert pair.kinds() == [(200, "a", "CopyFailed")]
    pair.links.heal()
    pair.links.trouble(LinkTrouble(damage=1.0))
    pair.a.start(_copy(pair, (0,), (0,)))
    pair.queue.run_until(4000)
    assert pair.kinds()[1:] == [(2200, "a", "CopySent"), (2210, "b", "CopyFailed")]


def test_a_copy_that_takes_too_long_fails() -> None:
    pair = Pair()
    pair.links.slow(WorkerId("b"), 1e9)
    pair.a.start(_copy(pair, (0,), (0,)))
    pair.queue.run_until(20_000_000_000)
    assert pair.kinds() == [(10_000_000_000, "a", "CopyFailed")]


def test_writing_a_block_that_a_copy_is_on_its_way_to_breaks_a_rule() -> None:
    pair = Pair()
    pair.b.open_lease(OPEN)
    pair.a.start(_copy(pair, (0,), (2,)))
    with pytest.raises(InvariantBroken, match="r writes block 2 while copy m/0 of move m from a#1"):
        pair.prefill(pair.b)


def test_a_fenced_source_does_not_hold_blocks_up() -> None:
    pair = Pair()
    pair.a.start(_copy(pair, (0,), (2,)))
    pair.b.inbound.fence(pair.a.key)
    pair.prefill(pair.b)


def test_lending_a_block_under_computation_breaks_a_rule() -> None:
    pair = Pair()
    pair.prefill(pair.b)
    lease = LeaseOpened(move_id=MOVE, lease=1, target=pair.b.key, blocks=(BlockId(2),), present=0)
    with pytest.raises(InvariantBroken, match="block 2 is lent to move m"):
        pair.b.inbound.check_lease(lease)
    pair.queue.run_until(5000)
    pair.b.inbound.check_lease(lease)


def test_sent_and_landed_bytes_are_blocks_times_layers() -> None:
    pair = Pair()
    pair.a.start(_copy(pair, (0, 1), (0, 1), last_layer=1))
    pair.queue.run_until(5000)
    ends = [event for _, _, event in pair.log]
    assert [type(end) for end in ends] == [CopySent, BlocksLanded]
    assert [end.transfer_bytes for end in ends] == [200, 200]


def test_time_is_the_cost_models_and_all_of_it_is_counted() -> None:
    pair = Pair(token_ns=7)
    pair.prefill(pair.a)
    pair.queue.run_until(5000)
    assert pair.log[0][0] == 1000 + 10 * 7
    pair.decode(pair.a, (0, 1, 2))
    assert pair.log[1][0] == 5000 + 1000 + 7
    assert (pair.a.iterations, pair.a.busy_ns) == (2, 1070 + 1007)
    assert (pair.b.iterations, pair.b.busy_ns) == (0, 0)


def _under_shell(pair: Pair) -> QueueShell:
    """Puts a process, which can freeze, around engine a."""

    def step(event: Any, now_ns: int) -> list[Any]:
        pair.log.append((now_ns, "a", event))
        return []

    shell = QueueShell(pair.queue, step, lambda effect: None, None)
    pair.a.connect(pair.queue, pair.links, shell.post, shell.run)
    return shell


def test_a_frozen_process_starts_no_copy_and_hears_no_end_until_the_thaw() -> None:
    pair = Pair()
    shell = _under_shell(pair)
    pair.b.open_lease(OPEN)
    pair.prefill(pair.a, (_copy(pair, (0, 1, 2), (0, 1, 2), last_layer=1),))
    pair.queue.run_until(100)
    shell.freeze()
    pair.queue.run_until(7000)
    assert pair.log == []
    shell.thaw()
    pair.queue.run_until(9000)
    landed = [(7300, "a", "CopySent"), (7310, "b", "BlocksLanded")]
    assert pair.kinds() == [(7000, "a", "IterationDone"), *landed]


def test_a_copy_under_way_leaves_a_frozen_process_all_the_same() -> None:
    pair = Pair()
    shell = _under_shell(pair)
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OPEN)
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    shell.freeze()
    pair.queue.run_until(4000)
    assert pair.kinds()[1:] == [(2610, "b", "BlocksLanded")]
    assert pair.decode(pair.b, (0, 1, 2)) == pair.truth.output(1)


def test_a_dead_process_ends_nothing_and_takes_nothing_in() -> None:
    pair = Pair()
    pair.prefill(pair.b)
    pair.a.start(_copy(pair, (0,), (9,)))
    pair.queue.run_until(205)
    pair.b.close()  # the last byte has left and is in the air
    pair.queue.run_until(5000)
    assert pair.kinds() == [(200, "a", "CopySent")]


def test_the_target_dies_while_a_copy_leaves_and_the_source_hears_of_it() -> None:
    pair = Pair()
    pair.a.start(_copy(pair, (0,), (9,)))
    del pair.engines[pair.b.key]
    pair.queue.run_until(5000)
    assert pair.kinds() == [(200, "a", "CopyFailed")]
    assert "worker b#1 is gone" in pair.log[0][2].reason


def test_a_copy_reads_its_source_when_the_last_byte_leaves() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OPEN)
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    pair.queue.run_until(2500)
    memory = pair.a.content
    assert memory is not None
    memory.write(_copy(pair, (9,), (1,)), memory.read(_copy(pair, (9,), (1,))))
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_the_lease_of_another_move_lets_nothing_in() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OpenLease(move_id=MoveId("other"), lease=1))
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    pair.queue.run_until(5000)
    assert pair.kinds()[-1][2] == "BlocksLanded"
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_an_open_lease_lets_nothing_in_that_is_for_an_earlier_one() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OpenLease(move_id=MOVE, lease=2))
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_a_damaged_copy_writes_nothing() -> None:
    pair = Pair()
    pair.prefill(pair.a)
    pair.queue.run_until(2000)
    pair.b.open_lease(OPEN)
    pair.links.trouble(LinkTrouble(damage=1.0))
    pair.a.start(_copy(pair, (0, 1, 2), (0, 1, 2)))
    pair.queue.run_until(5000)
    assert pair.decode(pair.b, (0, 1, 2)) != pair.truth.output(1)


def test_unchecked_tokens_depend_on_seed_and_position_alone() -> None:
    pair = Pair()
    pair.a.content = pair.b.content = None
    for engine, table in ((pair.a, (0, 1, 2)), (pair.b, (5, 3, 8))):
        engine.iterate(RunIteration(batch=_batch(REQUEST.token_ids, 0, table)))
    pair.a.iterate(RunIteration(batch=_batch((7,), 10, (0, 1, 2))))
    pair.queue.run_until(5000)
    first, second, third = (event.sampled[0].token_id for _, _, event in pair.log)
    assert first == second != third


def test_a_source_that_is_told_late_is_told_after_the_landing() -> None:
    pair = Pair()
    pair.links.trouble(LinkTrouble(told_late_ns_max=5000))
    pair.a.start(_copy(pair, (0,), (0,)))
    pair.queue.run_until(20_000)
    (landed, _, first), (told, _, last) = pair.kinds()
    assert (first, last) == ("BlocksLanded", "CopySent")
    assert 210 == landed < told < 5200
