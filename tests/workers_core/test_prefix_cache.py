from fleet import Fleet
from parts import MS
from solo import TOKEN, Solo
from splitweave.proto.blocks import block_hashes
from splitweave.proto.cluster_events import WorkerViewed
from splitweave.proto.views import Role
from splitweave.proto.worker_events import RoleAssigned, StreamAcked


def finish(solo: Solo, name: str) -> None:
    while solo.phase(name) not in (None, "finished"):
        solo.iterate()


def test_a_known_prefix_is_not_computed_again() -> None:
    solo = Solo()
    solo.assign("r", range(20), max_tokens=1)
    finish(solo, "r")
    solo.assign("s", [*range(16), 99, 98])
    assert solo.batch == {"s": 2}
    assert solo.running is not None
    assert solo.running.chunks[0].start == 16


def test_a_whole_prompt_in_the_cache_leaves_a_token_to_compute() -> None:
    solo = Solo()
    solo.assign("r", range(16), max_tokens=1)
    finish(solo, "r")
    solo.assign("s", range(16))
    assert solo.batch == {"s": 4}  # its last block, to itself: a shared one is never written


def test_a_shared_prefix_is_held_once_for_each_holder() -> None:
    solo = Solo()
    solo.assign("r", range(18), max_tokens=9)
    solo.iterate(2)
    solo.assign("s", range(18), max_tokens=9)
    solo.iterate()
    tables = {chunk.request_id: chunk.block_table for chunk in solo.running.chunks}
    assert tables["r"][:4] == tables["s"][:4]
    assert tables["r"][4] != tables["s"][4]
    assert solo.view.blocks_held == 6


def test_a_block_is_findable_only_when_it_is_computed() -> None:
    solo = Solo()
    solo.assign("r", range(16))
    solo.assign("s", range(16))
    solo.iterate()
    assert solo.batch["s"] == 4
    other = Solo()
    other.assign("r", range(30))
    other.iterate()
    other.assign("s", range(30))
    other.iterate()
    assert other.batch["s"] == 2  # 28 of its 30 tokens were computed meanwhile


def test_chunks_tell_how_many_prompt_tokens_were_cached() -> None:
    solo = Solo()
    solo.assign("r", range(20), max_tokens=1)
    finish(solo, "r")
    assert solo.chunks[0].cached_tokens == 0
    solo.assign("s", range(20))
    solo.iterate()
    assert solo.chunks[0].cached_tokens == 16


def test_a_follow_up_turn_finds_the_output_of_the_first() -> None:
    solo = Solo()
    solo.assign("r", range(6), max_tokens=7)
    finish(solo, "r")
    solo.assign("s", [*range(6), *[TOKEN] * 7, 500])
    assert solo.running.chunks[0].start == 12


def test_tenants_with_different_salts_share_nothing() -> None:
    solo = Solo()
    solo.assign("r", range(20), max_tokens=1, block_hashes=block_hashes(range(20), 4, "one"))
    finish(solo, "r")
    solo.assign("s", range(20), max_tokens=1, block_hashes=block_hashes(range(20), 4, "two"))
    assert solo.batch == {"s": 16}
    finish(solo, "s")
    solo.assign("t", range(20), block_hashes=block_hashes(range(20), 4, "one"))
    assert solo.batch == {"t": 4}


def test_the_cache_gives_way_to_new_requests() -> None:
    solo = Solo(blocks=8)
    for name in "rst":
        solo.assign(name, 24, max_tokens=1)
        finish(solo, name)
        solo.step(StreamAcked(request_id=name))
    assert solo.view.blocks_cached + solo.view.blocks_free == 8


def test_heartbeats_tell_cached_and_evicted_hashes() -> None:
    solo = Solo(blocks=6)
    solo.step(RoleAssigned(role=Role.MIXED, draining=False))
    solo.assign("r", range(16), max_tokens=1)
    finish(solo, "r")
    solo.fire("heartbeat")
    assert solo.sent(WorkerViewed)[0].cached == block_hashes(range(16), 4)
    solo.assign("s", range(50, 70), max_tokens=1)
    finish(solo, "s")
    solo.fire("heartbeat")
    beat = solo.sent(WorkerViewed)[0]
    assert beat.cached == block_hashes(range(50, 70), 4)
    assert set(beat.evicted) < set(block_hashes(range(16), 4))
    assert len(beat.evicted) == 3  # from the tail


def test_cached_prefixes_give_true_tokens() -> None:
    fleet = Fleet("a", blocks=32)
    for number in range(6):
        prompt = [*range(10 * (number % 3 + 1)), number]
        fleet.ask("a", f"r{number}", prompt, 10, seed=number)
        fleet.run(4 * MS)
    fleet.run_until_done()
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
