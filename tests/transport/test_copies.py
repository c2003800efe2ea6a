"""Copies between healthy workers: whatever is sent arrives, whole and once."""

from dataclasses import replace

from kv_mesh import LIMITS, MIB, Mesh, Worker, ids

CHUNK = LIMITS.chunk_bytes
SIZES = (0, 1, 7, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 9 * CHUNK + 5)


def send_all(source: Worker, target: Worker, name: str) -> None:
    for number, size in enumerate(SIZES):
        source.send(target, f"{name}{number}", size, seed=number)


def assert_landed_equal(source: Worker, target: Worker, name: str) -> None:
    for number, size in enumerate(SIZES):
        assert target.landed_equal(f"{name}{number}", size, seed=number)
        assert source.sent(f"{name}{number}").transfer_bytes == size


def test_copies_of_all_sizes_arrive_equal(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    for name in ("x", "y", "z", "u", "v"):
        send_all(a, b, name)
    for name in ("x", "y", "z", "u", "v"):
        assert_landed_equal(a, b, name)


def test_a_first_copy_may_be_empty(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    a.send(b, "nothing", 0)
    a.send(b, "something", 10)
    assert b.landed_equal("nothing", 0)
    assert b.landed_equal("something", 10)


def test_all_pairs_of_three_workers_work_at_the_same_time(mesh: Mesh) -> None:
    workers = [mesh.start(name) for name in "abc"]
    pairs = [(x, y, f"{x.key}{y.key}") for x in workers for y in workers if x is not y]
    for source, target, name in pairs:
        send_all(source, target, name)
    for source, target, name in pairs:
        assert_landed_equal(source, target, name)


def test_all_copies_of_a_pair_share_its_pairing_and_are_numbered(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    for name in "xyz":
        a.send(b, name)
        assert b.landed_equal(name)
    headers = [a.header(name) for name in "xyz"]
    assert {header.pairing for header in headers} == {1}
    assert [header.sequence for header in headers] == [0, 1, 2]
    assert [header.first_number for header in headers] == [0, 1, 2]


def test_small_copies_that_wait_share_a_header_and_a_large_one_has_its_own(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    a.peer.order("hold")
    a.send(b, "first", 10)
    a.peer.wait(lambda words: words[0] == "held")  # its gather stands still while others come
    for number in range(5):
        a.send(b, f"x{number}", 1000 + number, seed=number)
    a.send(b, "large", 3 * CHUNK, seed=9)
    a.census()  # all are queued now
    a.peer.order("go_on")
    assert b.landed_equal("first", 10)
    assert all(b.landed_equal(f"x{n}", 1000 + n, seed=n) for n in range(5))
    assert b.landed_equal("large", 3 * CHUNK, seed=9)
    assert ids(a.header("x0")) == [f"x{number}" for number in range(5)]
    large = a.header("large")
    assert (ids(large), large.sequence, large.first_number) == (["large"], 2, 6)


def test_sides_may_have_different_chunk_sizes(mesh: Mesh) -> None:
    a, b = mesh.start("a", limits=replace(LIMITS, chunk_bytes=1008)), mesh.start("b")
    a.send(b, "x", 123_456)
    b.send(a, "y", 2 * MIB + 1)
    assert b.landed_equal("x", 123_456)
    assert a.landed_equal("y", 2 * MIB + 1)


def test_an_idle_pair_makes_room_for_another(mesh: Mesh) -> None:
    one = replace(LIMITS, pairs_max=1)
    a, b, c = mesh.start("a", limits=one), mesh.start("b"), mesh.start("c")
    for name, target in (("x", b), ("y", c), ("z", b)):
        a.send(target, name, 2 * MIB)
        assert a.sent(name).ok
        assert target.landed_equal(name, 2 * MIB)
    assert [a.header(name).pairing for name in "xyz"] == [1, 2, 3]


def test_an_idle_pair_ends_and_the_next_copy_pairs_anew(mesh: Mesh) -> None:
    a, b = mesh.start("a", limits=replace(LIMITS, idle_timeout_s=0.05)), mesh.start("b")
    threads = a.census()[0]
    a.send(b, "x")
    assert b.landed_equal("x")
    while a.census()[0] > threads:  # bounded by the test's timeout
        pass
    a.send(b, "y")
    assert b.landed_equal("y")
    assert a.header("y").pairing == 2


def test_fifty_pairs_opened_and_closed_leave_no_thread_and_no_descriptor(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    threads = [a.census()[0], b.census()[0]]
    before = []
    for number in range(55):
        a.send(b, f"x{number}", 100)
        assert b.landed_equal(f"x{number}", 100)
        assert a.sent(f"x{number}").ok
        a.peer.order("cut", b.key.worker_id)
        assert a.peer.wait(lambda words: words[0] == "cut")[1] == 1
        b.peer.order("cut", a.key.worker_id)
        if number == 4:  # the first ones load what stays loaded
            before = [a.settled(threads[0]), b.settled(threads[1])]
    assert a.header("x54").pairing == 55
    assert a.comes_to(lambda census: census == before[0])
    assert b.comes_to(lambda census: census == before[1])


def test_closing_leaves_no_thread_and_no_descriptor(mesh: Mesh) -> None:
    a, b = mesh.start("a"), mesh.start("b")
    a.close()
    b.close()
    before = [a.settled(1), b.settled(1)]
    for life in (2, 3, 4):
        a, b = mesh.reopen(a, life), mesh.reopen(b, life)
        for number in range(3):  # three pairings in one life
            a.send(b, f"x{number}", 3 * MIB)
            assert b.landed_equal(f"x{number}", 3 * MIB)
            assert a.sent(f"x{number}").ok
            a.peer.order("close_pair", b.key)
        a.close()
        b.close()
    assert a.comes_to(lambda census: census == before[0])
    assert b.comes_to(lambda census: census == before[1])
