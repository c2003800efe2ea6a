"""Recordings: what was written is read, whatever a crash left of it, and replays alike."""

import json
from pathlib import Path
from typing import Any

import pytest
import words
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto import cluster_events, gateway_events, record, worker_events
from splitweave.proto.effects import ToController
from splitweave.proto.gateway_events import ClientGone
from splitweave.proto.ids import RequestId
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey

EVENTS = st.one_of(
    words.values(cluster_events.ClusterEvent),
    words.values(gateway_events.GatewayEvent),
    words.values(worker_events.WorkerEvent),
)
EFFECTS = st.lists(words.values(SetTimer) | words.values(ClearTimer), max_size=3)
STEPS = st.lists(st.tuples(st.integers(0, 2**62), EVENTS, EFFECTS), max_size=5)


class Scripted:
    """A core that does as it is told, whatever happens."""

    def __init__(self, effects: list[Any]) -> None:
        self._effects = list(effects)

    def step(self, event: Any, now_ns: int) -> list[Any]:
        return self._effects.pop(0)


def event(name: str) -> ClientGone:
    return ClientGone(request_id=RequestId(name))


def timer(name: str, at_ns: int = 1) -> list[Any]:
    return [SetTimer(TimerKey(name), at_ns)]


def write(path: Path, steps: list[tuple[int, Any, list[Any]]]) -> str:
    """Records the steps; their digest."""
    recorder, digest = record.FileRecorder(path), record.Digest()
    for now_ns, happened, effects in steps:
        recorder.record(now_ns, happened, effects)
        digest.record(now_ns, happened, effects)
    recorder.close()
    return digest.hexdigest()


# Three steps whose text is not ASCII: a cut can fall inside a character.
NAMED = [(10, event("ä日"), timer("é")), (20, event("b"), []), (30, event("😀"), timer("c"))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "core.jsonl"


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_what_was_recorded_is_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, Any, list[Any]]]
) -> None:
    path = tmp_path_factory.mktemp("steps") / "core.jsonl"
    digest = write(path, steps)
    read = [(step.now_ns, step.event) for step in record.read_steps(path)]
    assert read == [(now_ns, happened) for now_ns, happened, _ in steps]
    assert record.replay(path, Scripted([effects for _, _, effects in steps])) == digest


def test_a_step_is_on_disk_before_the_next_one_begins(path: Path) -> None:
    recorder = record.FileRecorder(path)
    for count in (1, 2, 3):
        recorder.record(count, event("a"), [])
        assert len(list(record.read_steps(path))) == count
    recorder.close()


def test_a_file_cut_at_any_byte_gives_the_steps_that_were_whole(path: Path) -> None:
    write(path, NAMED)
    whole = path.read_bytes()
    steps = list(record.read_steps(path))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert list(record.read_steps(path)) == steps[: whole[:length].count(b"\n")]


def test_a_new_recording_replaces_the_old_one(path: Path) -> None:
    write(path, NAMED)
    write(path, NAMED[:1])
    assert len(list(record.read_steps(path))) == 1


STEP = {"now_ns": 1, "event": {"@": "ClientGone", "request_id": "r"}, "effects": ""}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "expected an object with now_ns, event and effects, got []"),
        (b'"now_ns"', "expected an object with now_ns, event and effects"),
        (b'{"now_ns": 1}', "expected an object with now_ns, event and effects"),
        (json.dumps(STEP | {"more": 1}).encode(), "expected an object with now_ns"),
        (json.dumps(STEP | {"now_ns": "soon"}).encode(), "now_ns is 'soon'"),
        (json.dumps(STEP | {"now_ns": 1.5}).encode(), "now_ns is 1.5"),
        (json.dumps(STEP | {"effects": None}).encode(), "effects None; an int and a text"),
        (json.dumps(STEP | {"event": None}).encode(), "expected an object with '@', got None"),
        (json.dumps(STEP | {"event": {"@": "ClientGone"}}).encode(), "missing field 'request_id'"),
        (b'{"now_ns": "\xff"}', "can't decode byte 0xff"),
    ],
)
def test_a_spoiled_line_is_refused_by_file_and_number(path: Path, line: bytes, reason: str) -> None:
    write(path, NAMED)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(record.RecordingError) as caught:
        list(record.read_steps(path))
    assert str(caught.value).startswith(f"{path}:4: ")
    assert reason in str(caught.value)


def test_the_steps_before_a_spoiled_line_are_given(path: Path) -> None:
    write(path, NAMED)
    path.write_bytes(path.read_bytes() + b"?\n")
    steps = record.read_steps(path)
    assert [next(steps).now_ns for _ in NAMED] == [10, 20, 30]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_replay_stops_at_the_first_step_that_differs(path: Path, number: int) -> None:
    write(path, NAMED)
    effects: list[Any] = [effects for _, _, effects in NAMED]
    effects[number - 1] = timer("other")
    core = Scripted(effects)
    with pytest.raises(record.ReplayDiffers, match=rf"core.jsonl:{number}: other effects") as told:
        record.replay(path, core)
    assert repr(NAMED[number - 1][1]) in str(told.value)
    assert repr(timer("other")) in str(told.value)
    assert len(core._effects) == len(NAMED) - number


@pytest.mark.parametrize(
    "other",
    [
        [],
        timer("k", 2),
        timer("l"),
        [*timer("k"), *timer("k")],
        [ClearTimer(TimerKey("k"))],
        [ToController(event("k"))],  # type: ignore[arg-type]
    ],
)
def test_effects_that_differ_in_anything_have_another_digest(other: list[Any]) -> None:
    assert record.effects_digest(other) != record.effects_digest(timer("k"))
    assert record.effects_digest(tuple(timer("k"))) == record.effects_digest(timer("k"))


@pytest.mark.parametrize("index", range(3))
def test_the_digest_covers_time_event_and_effects_of_every_step(index: int) -> None:
    digests = set()
    changes = [{}, {0: 11}, {1: TimerFired(TimerKey("t"))}, {2: timer("z")}]
    for change in changes:
        steps: list[Any] = list(NAMED)
        steps[index] = tuple(change.get(place, part) for place, part in enumerate(steps[index]))
        digest = record.Digest()
        for step in steps:
            digest.record(*step)
        assert digest.steps == 3
        digests.add(digest.hexdigest())
    assert len(digests) == len(changes)


def test_the_order_of_steps_is_part_of_the_digest(path: Path) -> None:
    assert write(path, NAMED) != write(path, NAMED[::-1])


def test_a_replay_of_a_cut_recording_is_that_of_its_whole_steps(path: Path) -> None:
    two = write(path, NAMED[:2])
    write(path, NAMED)
    path.write_bytes(path.read_bytes()[:-3])
    assert record.replay(path, Scripted([effects for _, _, effects in NAMED])) == two
