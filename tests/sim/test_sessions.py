"""Conversations: each turn says all that was said, and waits for the answer before it."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_worlds import pool, scenario, source, world_of
from splitweave.proto.requests import Request
from splitweave.sim.campaign import run_seed
from splitweave.sim.metrics import measure
from splitweave.sim.run import Outcome, simulate
from splitweave.sim.transcript import Transcript
from splitweave.sim.workloads.arrivals import Arrival
from splitweave.sim.workloads.sessions import next_turn

S = 1_000_000_000
LENGTH = {"kind": "uniform", "low": 4, "high": 40}
TALK = {
    "kind": "sessions", "rate_per_s": 3.0, "sessions": 12, "turns_mean": 3.0,
    "think_s": {"median": 1.0, "p90": 4.0, "max": 6.0},
    "prompt": LENGTH, "message": LENGTH, "output": LENGTH,
}  # fmt: skip


def _opened(context_tokens_max: int = 131072, seed: int = 1, **changes: Any) -> Iterator[Arrival]:
    return iter(source(TALK | changes, seed, context_tokens_max))


def _talk(**changes: Any) -> Any:
    return scenario(workload=TALK | changes.pop("workload", {}), **changes)


class _Overheard:
    """A finished run, and all that its clients asked and were answered."""

    def __init__(self, given: Any) -> None:
        self.asked: dict[str, Request] = {}
        self.answers: dict[str, list[int]] = {}
        self.world, self.run, queue = world_of(given, checked=given.checked)
        clients = self.world.clients
        ask, deliver = clients.ask, clients.deliver

        def heard_ask(request: Request, *rest: Any) -> Any:
            self.asked[request.request_id] = request
            return ask(request, *rest)

        def heard_deliver(effect: Any, now_ns: int) -> None:
            answer = self.answers.setdefault(effect.request_id, [])
            answer += [token.token_id for token in effect.tokens]
            deliver(effect, now_ns)

        clients.ask, clients.deliver = heard_ask, heard_deliver  # type: ignore[method-assign]
        while not self.run.done and queue.now_ns < self.run.deadline_ns:
            queue.run_until(queue.now_ns + S)
        self.run.judge_end()

    def turns(self) -> Iterator[tuple[str, str]]:
        """Each later turn's name with that of the one before."""
        for name in self.asked:
            first, _, turn = name.partition(".")
            if turn:
                yield (first if turn == "1" else f"{first}.{int(turn) - 1}"), name


@pytest.mark.parametrize("checked", [True, False])
def test_a_turns_prompt_is_the_one_before_its_answer_and_a_message(checked: bool) -> None:
    heard = _Overheard(_talk(checked=checked))
    turns = list(heard.turns())
    assert len(turns) > 12
    assert len(heard.asked) == 12 + len(turns)
    for before, name in turns:
        said = heard.asked[before].token_ids + tuple(heard.answers[before])
        token_ids = heard.asked[name].token_ids
        assert token_ids[: len(said)] == said
        assert 4 <= len(token_ids) - len(said) <= 40
        assert heard.asked[name].gateway_id == heard.asked[before].gateway_id


def test_a_turn_comes_its_think_time_after_the_answer() -> None:
    heard = _Overheard(_talk())
    thinks = {f"r{n}": [t.think_ns for t in a.turns] for n, a in enumerate(_opened())}
    streams = heard.world.clients.streams
    for before, name in heard.turns():
        first, _, turn = name.partition(".")
        wait_ns = streams[name].asked_ns - streams[before].last_ns
        think_ns = thinks[first][int(turn) - 1]
        assert (
            think_ns <= wait_ns < think_ns + S // 100
        )  # the last token is known as such a bit later


def test_every_turn_that_was_drawn_is_asked() -> None:
    heard = _Overheard(_talk())
    drawn = sum(1 + len(arrival.turns) for arrival in _opened())
    assert len(heard.asked) == heard.run.requests == drawn


def test_what_was_said_is_still_in_the_cache_of_the_worker_that_said_it() -> None:
    long = {"kind": "fixed", "tokens": 200}
    given = _talk(
        pools=[pool("m", "mixed", blocks=4000)], workload={"prompt": long, "output": long}
    )
    outcome = simulate(given)
    streams = outcome.world.clients.streams
    later = [s for name, s in streams.items() if "." in name and s.account is not None]
    assert len(later) > 12
    for stream in later:
        assert stream.account is not None
        assert stream.account.cached_tokens > 0.85 * (stream.prompt_tokens - 40)
    assert measure(outcome).cached_tokens > 0


def test_how_many_will_come_is_said_once_it_is_known() -> None:
    seen: list[tuple[int, int | None]] = []
    outcome = simulate(_talk(), progress=lambda *now: seen.append(now))
    total = len(outcome.world.clients.streams)
    assert seen[0][1] is None
    assert seen[-1] == (total, total)
    assert [ended for ended, _ in seen] == sorted(ended for ended, _ in seen)


def _digest(given: Any) -> str:
    transcript = Transcript()
    simulate(given, transcript=transcript)
    return transcript.digest()


def test_a_seed_of_sessions_gives_one_digest() -> None:
    given = _talk(checked=True)
    assert _digest(given) == _digest(given) != _digest(_talk(checked=True, seed=2))


def test_sessions_hold_every_rule_while_everything_fails() -> None:
    faults = {
        "until_s": 5.0, "crashes": 2, "freezes": 1, "message_troubles": 2, "cuts": 1,
        "controller_restarts": 1, "gateway_crashes": 1, "migrations": 10, "cancels": 0.3,
    }  # fmt: skip
    given = _talk(
        pools=[pool("prefill", "prefill", count=2), pool("decode", "decode", count=2)],
        network={"gateways": 2}, faults=faults, stop_chance=0.01, end_within_s=120,
    )  # fmt: skip
    results = [run_seed(given, seed) for seed in range(8)]
    assert [result.error for result in results] == [""] * 8
    assert sum(result.requests for result in results) > 8 * 12


def _ended(outcome: Outcome, name: str) -> bool:
    return any(key.startswith(f"{name}.") for key in outcome.world.clients.streams)


def test_a_session_whose_client_went_away_says_nothing_more() -> None:
    faults = {"until_s": 1.0, "cancels": 1.0}
    given = _talk(faults=faults, workload={"output": {"kind": "fixed", "tokens": 900}})
    outcome = simulate(given)
    for name, stream in outcome.world.clients.streams.items():
        if stream.hung_up:
            assert not _ended(outcome, name)
    assert any(stream.hung_up for stream in outcome.world.clients.streams.values())


def test_a_session_whose_request_is_refused_says_nothing_more_and_the_run_ends() -> None:
    given = _talk(pools=[pool("m", "mixed", blocks=2)])
    outcome = simulate(given)
    streams = outcome.world.clients.streams
    refused = [name for name, stream in streams.items() if stream.error is not None]
    assert refused
    assert not any(_ended(outcome, name) for name in refused if "." not in name)


@given(st.integers(0, 500), st.integers(60, 600))
@settings(deadline=None, max_examples=40)
def test_no_turn_can_exceed_the_context(seed: int, context_tokens_max: int) -> None:
    for arrival in _opened(context_tokens_max, seed, turns_mean=30.0):
        said = arrival.prompt_tokens + arrival.output_tokens
        asked: Arrival | None = arrival
        while asked is not None and asked.turns:
            asked = next_turn(asked, tuple(range(said)), 5 * S)
            assert asked is not None
            assert asked.at_ns >= 5 * S
            said = asked.prompt_tokens + asked.output_tokens
            assert said <= context_tokens_max


@pytest.mark.parametrize("mean", [1.0, 2.5, 6.0])
def test_turns_are_geometric(mean: float) -> None:
    counts = [1 + len(a.turns) for a in _opened(sessions=4000, turns_mean=mean)]
    assert sum(counts) / 4000 == pytest.approx(mean, rel=0.06)
    assert counts.count(1) / 4000 == pytest.approx(1 / mean, abs=0.03)
    assert max(1 + len(a.turns) for a in _opened(turns_mean=1e6, turns_max=7)) == 7
