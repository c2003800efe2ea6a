from parts import key_of
from splitweave.proto.ids import Epoch
from splitweave.workers.core.memory import DeadPeers, EndedMoves


def test_an_ended_move_is_known_with_the_epoch_it_committed() -> None:
    ended = EndedMoves(4)
    ended.add("m1", Epoch(0, 1))
    ended.add("m2")
    assert "m1" in ended
    assert ended.committed("m1") == Epoch(0, 1)
    assert ended.committed("m2") is None
    assert "m3" not in ended
    assert ended.committed("m3") is None


def test_a_commit_is_not_forgotten_by_a_later_abort() -> None:
    ended = EndedMoves(4)
    ended.add("m1", Epoch(0, 1))
    ended.add("m1")
    assert ended.committed("m1") == Epoch(0, 1)


def test_the_least_recently_heard_of_is_forgotten_first() -> None:
    ended = EndedMoves(2)
    ended.add("m1")
    ended.add("m2")
    ended.add("m1")
    ended.add("m3")
    assert [move_id in ended for move_id in ("m1", "m2", "m3")] == [True, False, True]


def test_death_covers_older_incarnations_and_no_newer_one() -> None:
    dead = DeadPeers(4)
    dead.add(key_of("b", 2))
    assert [key_of("b", number) in dead for number in (1, 2, 3)] == [True, True, False]
    assert key_of("c", 1) not in dead


def test_an_older_death_heard_later_changes_nothing() -> None:
    dead = DeadPeers(4)
    dead.add(key_of("b", 3))
    dead.add(key_of("b", 1))
    assert key_of("b", 3) in dead


def test_no_more_deaths_are_remembered_than_allowed() -> None:
    dead = DeadPeers(2)
    for name in "bcd":
        dead.add(key_of(name))
    assert [key_of(name) in dead for name in "bcd"] == [False, True, True]
