"""The NCCL backend's own machinery: dispatcher, places, watchdog; NCCL is scripted."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from communicators import Scripted, ScriptedCommunicators
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.workers.live.nccl_limits import NcclLimits
from splitweave.workers.live.transport import nccl_watchdog
from splitweave.workers.live.transport.backend import Pair, PairError, Rendezvous
from splitweave.workers.live.transport.nccl import NcclBackend
from splitweave.workers.live.transport.nccl_comm import Verb
from splitweave.workers.live.transport.nccl_dispatch import Dispatcher, Line, Posted, rounds
from splitweave.workers.live.transport.nccl_watchdog import Watchdog

WAIT_S = 60.0
CPU = torch.device("cpu")
CHUNK = torch.ones(8, dtype=torch.uint8)


@dataclass
class Keys:
    """A store that only counts."""

    torch_store: None = None
    forgotten: int = 0

    def met(self) -> None:
        raise AssertionError("NCCL asks the store again at its first message")

    def forget(self) -> None:
        self.forgotten += 1


class Bench:
    """A backend over scripted communicators."""

    def __init__(self, limits: NcclLimits) -> None:
        self.communicators = ScriptedCommunicators()
        self.stuck: Queue[str] = Queue()
        self.keys = Keys()
        self.backend = NcclBackend(CPU, self.stuck.put, limits, self.communicators)

    def open(self, name: str = "pair", timeout_s: float = WAIT_S) -> Pair:
        rendezvous = Rendezvous(
            store=self.keys, rank=0, timeout_s=timeout_s, slots=64, slot_bytes=64, name=name
        )
        return self.backend.open(rendezvous)

    def launched(self, count: int = 1) -> Scripted:
        """The last communicator, once it has launched so often."""
        last = self.communicators.opened[-1]
        until(lambda: len(last.launches) >= count)
        return last

    def close(self) -> None:
        self.communicators.open_may_go.set()
        for each in self.communicators.opened:
            each.launch_may_go.set()
            each.abort_may_go.set()
            for launch in each.launches:
                launch.through.set()
        self.backend.close(WAIT_S)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.001)


@pytest.fixture
def bench() -> Iterator[Bench]:
    yield from benches(600.0)  # the watchdog waits longer than any machine is busy


@pytest.fixture
def hasty() -> Iterator[Bench]:
    yield from benches(0.4)


def benches(stuck_s: float) -> Iterator[Bench]:
    bench = Bench(
        NcclLimits(pairs_max=2, abort_stuck_s=stuck_s, open_stuck_s=stuck_s, linger_s=0.01)
    )
    yield bench
    bench.close()


# ---- what is launched, and in which order


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    posts=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Verb))), max_size=60),
    group_max=st.integers(1, 8),
)
def test_a_round_goes_by_names_and_keeps_each_pairs_order_in_small_groups_of_one_verb(
    posts: list[tuple[str, Verb]], group_max: int
) -> None:
    lines = {name: Line(name, Scripted(name)) for name in "abc"}
    batch = [
        Posted(line=lines[name], verb=verb, chunk=CHUNK, tag=number)
        for number, (name, verb) in enumerate(posts)
    ]
    launches = rounds(batch, group_max)
    flat = [posted for launch in launches for posted in launch]
    assert sorted(flat, key=lambda each: each.tag) == batch
    assert [each.line.name for each in flat] == sorted(each.line.name for each in batch)
    for name in "abc":
        tags = [each.tag for each in flat if each.line.name == name]
        assert tags == sorted(tags)
    for launch in launches:
        assert 1 <= len(launch) <= group_max
        assert len({(each.line.name, each.verb) for each in launch}) == 1


def test_two_processes_with_the_same_operations_launch_them_in_the_same_order() -> None:
    def launched(order: list[str]) -> list[str]:
        batch = [Posted(Line(name, Scripted(name)), Verb.SEND, CHUNK, 0) for name in order]
        return [launch[0].line.name for launch in rounds(batch, 64)]

    assert launched(["b>a", "a>b"]) == launched(["a>b", "b>a"]) == ["a>b", "b>a"]


def test_what_is_posted_while_a_launch_runs_goes_as_one_group_from_the_one_thread() -> None:
    dispatcher = Dispatcher(group_max=4, queue_len_max=100)
    communicator = Scripted("x")
    communicator.launch_may_go.clear()
    line = Line("x", communicator)
    posted = [dispatcher.post(line, Verb.SEND, CHUNK, 0)]
    assert communicator.launching.wait(WAIT_S)
    posted += [dispatcher.post(line, Verb.SEND, CHUNK, tag) for tag in range(1, 7)]
    communicator.launch_may_go.set()
    assert all(each.told.wait(WAIT_S) for each in posted)
    assert [len(launch.chunks) for launch in communicator.launches] == [1, 4, 2]
    assert {launch.thread for launch in communicator.launches} == {"kv-nccl"}
    dispatcher.close(WAIT_S)


def test_a_failed_launch_costs_its_pair_and_no_other(bench: Bench) -> None:
    bad, good = bench.open("bad"), bench.open("good")
    bench.communicators.opened[0].error = "remote process exited\nC++ stack"
    pending = bad.send(CHUNK, 0)
    with pytest.raises(PairError, match=r"remote process exited$"):
        pending.wait(WAIT_S)
    with pytest.raises(PairError, match=r"remote process exited$"):
        bad.send(CHUNK, 1).wait(WAIT_S)
    fine = good.send(CHUNK, 0)
    bench.launched().launches[0].through.set()
    fine.wait(WAIT_S)


def test_a_full_dispatcher_refuses_and_a_closed_one_answers() -> None:
    dispatcher = Dispatcher(group_max=1, queue_len_max=1)
    communicator = Scripted("x")
    communicator.launch_may_go.clear()
    line = Line("x", communicator)
    dispatcher.post(line, Verb.SEND, CHUNK, 0)
    assert communicator.launching.wait(WAIT_S)
    waiting = dispatcher.post(line, Verb.SEND, CHUNK, 1)
    with pytest.raises(RuntimeError, match=r"queue_len_max \(1\)"):
        dispatcher.post(line, Verb.SEND, CHUNK, 2)
    closing = threading.Thread(target=dispatcher.close, args=(WAIT_S,))
    closing.start()
    assert waiting.told.wait(WAIT_S)
    assert (waiting.launched, waiting.error) == (None, "dispatcher is closed")
    communicator.launch_may_go.set()
    closing.join(WAIT_S)
    assert dispatcher.post(line, Verb.SEND, CHUNK, 3).error == "dispatcher is closed"


def test_a_wait_ends_when_the_device_is_through(bench: Bench) -> None:
    pair = bench.open()
    pending = pair.recv(CHUNK, 0)
    launch = bench.launched().launches[0]
    threading.Timer(0.05, launch.through.set).start()
    pending.wait(WAIT_S)
    assert (launch.verb, launch.chunks[0] is CHUNK) == (Verb.RECV, True)


def test_a_late_one_is_an_error_at_its_time(bench: Bench) -> None:
    pending = bench.open().send(CHUNK, 0)
    started_at = time.monotonic()
    with pytest.raises(PairError, match=r"not through in 0\.2 s"):
        pending.wait(0.2)
    assert 0.2 <= time.monotonic() - started_at < WAIT_S


def test_an_aborted_operation_that_looks_completed_is_an_error(bench: Bench) -> None:
    pair = bench.open()
    pending = pair.recv(CHUNK, 0)
    communicator = bench.launched()
    pair.cancel()
    assert communicator.aborted.wait(WAIT_S)
    assert communicator.launches[0].is_completed()
    with pytest.raises(PairError, match="cancelled"):
        pending.wait(WAIT_S)
    with pytest.raises(PairError, match="closed"):
        pair.recv(CHUNK, 1)


def test_a_wait_on_a_launch_that_hangs_is_ended_by_a_cancel_from_elsewhere(bench: Bench) -> None:
    pair = bench.open()
    communicator = bench.communicators.opened[0]
    communicator.launch_may_go.clear()
    pending = pair.send(CHUNK, 0)
    assert communicator.launching.wait(WAIT_S)
    threading.Timer(0.05, pair.cancel).start()
    with pytest.raises(PairError):
        pending.wait(WAIT_S)
    assert communicator.aborted.wait(WAIT_S)
    other = bench.open("other").send(CHUNK, 0)  # the dispatcher is free again
    bench.launched().launches[0].through.set()
    other.wait(WAIT_S)


def test_a_chunk_is_kept_until_the_device_has_left_it_abort_or_not(bench: Bench) -> None:
    pair = bench.open()
    communicator = bench.communicators.opened[0]
    communicator.device_left = False
    chunk = torch.ones(1000)
    gone = weakref.ref(chunk)
    pair.recv(chunk, 0)
    bench.launched()
    communicator.launches[0].chunks.clear()
    del chunk
    pair.close()
    assert communicator.aborted.wait(WAIT_S)
    gc.collect()
    assert gone() is not None  # a kernel may still write into it
    communicator.launches[0].through.set()
    until(lambda: gone() is None)


def test_chunks_that_are_through_are_not_kept(bench: Bench) -> None:
    pair = bench.open()
    for number in range(50):
        pending = pair.send(CHUNK, number)
        bench.launched(number + 1).launches[number].through.set()
        pending.wait(WAIT_S)
    line = pair._line  # type: ignore[attr-defined]
    assert len(line.held) <= 1


def test_no_more_than_pairs_max_are_open_and_the_next_waits_for_a_place(bench: Bench) -> None:
    first, _ = bench.open("a"), bench.open("b")
    with pytest.raises(PairError, match=r"pairs_max \(2\)"):
        bench.open("c", timeout_s=0.1)
    assert bench.keys.forgotten == 1
    threading.Timer(0.05, first.close).start()
    bench.open("c", timeout_s=WAIT_S)
    assert bench.communicators.alive == 2


def test_a_place_is_free_only_when_the_abort_is_through(bench: Bench) -> None:
    first, _ = bench.open("a"), bench.open("b")
    bench.communicators.opened[0].abort_may_go.clear()
    first.close()
    with pytest.raises(PairError, match="pairs_max"):
        bench.open("c", timeout_s=0.05)
    bench.communicators.opened[0].abort_may_go.set()
    bench.open("c", timeout_s=WAIT_S)


def test_a_pair_that_cannot_open_gives_its_place_and_its_keys_back(bench: Bench) -> None:
    bench.communicators.error = "cannot open: nobody there"
    for _ in range(5):
        with pytest.raises(PairError, match="nobody there"):
            bench.open()
    assert bench.keys.forgotten == 5
    bench.communicators.error = ""
    assert [bench.open("a"), bench.open("b")]


def test_a_closed_pair_lingers_and_a_cancelled_one_does_not() -> None:
    slow, quick = Bench(NcclLimits(linger_s=600.0)), Bench(NcclLimits(linger_s=0.1))
    closed, cancelled = slow.open("closed"), slow.open("cancelled")
    closed.close()
    cancelled.cancel()
    assert slow.communicators.opened[1].aborted.wait(WAIT_S)
    assert not slow.communicators.opened[0].aborted.is_set()
    slow.close()
    quick.open("closed").close()
    assert quick.communicators.opened[0].aborted.wait(WAIT_S)
    quick.close()


def test_closing_twice_aborts_once(bench: Bench) -> None:
    pair = bench.open()
    pair.cancel()
    pair.close()
    pair.cancel()
    assert bench.communicators.opened[0].aborted.wait(WAIT_S)
    bench.open("a"), bench.open("b")
    with pytest.raises(PairError, match="pairs_max"):
        bench.open("c", timeout_s=0.05)


def test_closing_never_waits_for_the_abort(bench: Bench) -> None:
    pair = bench.open()
    communicator = bench.communicators.opened[0]
    communicator.abort_may_go.clear()
    started_at = time.monotonic()
    pair.close()
    assert time.monotonic() - started_at < WAIT_S / 2  # it hangs for as long as WAIT_S


def test_an_abort_that_hangs_is_told_in_time_and_once_though_several_hang(hasty: Bench) -> None:
    pairs = [hasty.open("a>b"), hasty.open("b>a")]
    for each in hasty.communicators.opened:
        each.abort_may_go.clear()
    started_at = time.monotonic()
    for pair in pairs:
        pair.close()
    told = {f"abort of {name} did not return" for name in ("a>b", "b>a")}
    assert hasty.stuck.get(timeout=WAIT_S) in told
    assert time.monotonic() - started_at >= 0.4
    hasty.backend._watchdog._thread.join(WAIT_S)  # nobody is left to tell it again
    assert hasty.stuck.empty()


def test_an_open_that_hangs_is_told(hasty: Bench) -> None:
    hasty.communicators.open_may_go.clear()
    threading.Thread(target=hasty.open, daemon=True).start()
    assert hasty.stuck.get(timeout=WAIT_S) == "open of pair did not return"


def test_a_launch_that_survives_its_abort_is_stuck(hasty: Bench) -> None:
    pair = hasty.open()
    communicator = hasty.communicators.opened[0]
    communicator.device_left = False
    pair.send(CHUNK, 0)
    hasty.launched()
    pair.close()
    assert hasty.stuck.get(timeout=WAIT_S) == "abort of pair did not return"


def test_what_returns_in_time_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of the test's own."""
    now = [0.0]
    monkeypatch.setattr(nccl_watchdog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told: list[str] = []
    watchdog = Watchdog(0.2, told.append)
    for _ in range(20):
        with watchdog.bound("quick", 0.2):
            now[0] += 0.19
    with pytest.raises(KeyError), watchdog.bound("raises", 0.2):
        raise KeyError
    now[0] += 100.0
    with watchdog.bound("a further one, which wakes the watchdog", 0.2):
        pass
    watchdog.close(WAIT_S)
    assert (told, watchdog.stuck) == ([], False)


def test_an_abort_that_fails_counts_as_done(bench: Bench) -> None:
    def fail() -> None:
        raise RuntimeError("invalid usage")

    pair = bench.open()
    bench.communicators.opened[0].abort = fail  # type: ignore[method-assign]
    pair.close()
    bench.open("a"), bench.open("b", timeout_s=WAIT_S)
    assert bench.stuck.empty()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pairs_max": 1}, r"pairs_max \(1\)"),
        ({"group_max": 65}, r"group_max \(65\)"),
        ({"ctas_max": 0}, r"ctas_max \(0\)"),
        ({"abort_stuck_s": -1.0}, r"abort_stuck_s \(-1.0\)"),
    ],
)
def test_a_limit_that_cannot_work_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NcclLimits(**wrong)


def test_half_the_places_are_for_each_direction() -> None:
    assert [NcclLimits(pairs_max=most).pairs_per_direction for most in (2, 3, 16)] == [1, 1, 8]


@pytest.mark.skipif(torch.distributed.is_nccl_available(), reason="this torch has NCCL")
def test_a_build_without_nccl_says_so() -> None:
    with pytest.raises(RuntimeError, match="no NCCL"):
        NcclBackend(CPU, lambda reason: None)
