"""Conversations of several turns, drawn whole when they open.

What a session will say and how long it thinks is known when it opens; when each
turn comes depends on when the answer before it ended, which the world says.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from math import exp, log
from random import Random

from ..clock import to_ns
from .arrivals import Arrival, Segment, Turn
from .lengths import Z90
from .open_loop import prompt_of
from .specs import SessionsSpec, ThinkTime


def sessions(spec: SessionsSpec, seed: int, context_tokens_max: int) -> Iterator[Arrival]:
    """The first turn of each session, with the later ones in it. Endless.

    A session ends before the turn whose prompt and answer could exceed `context_tokens_max`.
    """
    at_s = 0.0
    times = Random(f"workload {seed}")
    for index in count():
        at_s += times.expovariate(spec.rate_per_s)
        random = Random(f"session {seed} {index}")
        first = Arrival(
            at_ns=to_ns(at_s),
            segments=prompt_of(spec, random, index),
            output_tokens=spec.output.draw(random),
        )
        left = context_tokens_max - first.prompt_tokens - first.output_tokens
        yield replace(first, turns=tuple(_turns(spec, random, index, left)))


def next_turn(asked: Arrival, said: tuple[int, ...], ended_ns: int) -> Arrival | None:
    """What the client of `asked` says after its answer ended; `said` is prompt and answer.

    None if it has nothing more to say.
    """
    if not asked.turns:
        return None
    turn = asked.turns[0]
    return replace(
        asked,
        at_ns=ended_ns + turn.think_ns,
        history=said,
        segments=(turn.message,),
        output_tokens=turn.output_tokens,
        turn=asked.turn + 1,
        turns=asked.turns[1:],
    )


def _turns(spec: SessionsSpec, random: Random, index: int, left: int) -> Iterator[Turn]:
    for number in range(1, spec.turns_max):
        if random.random() * spec.turns_mean < 1:  # geometric: the chance to end is 1 / mean
            return
        message, output = spec.message.draw(random), spec.output.draw(random)
        left -= message + output
        if left < 0:
            return
        yield Turn(
            think_ns=to_ns(_think_s(spec.think_s, random)),
            message=Segment(f"own/{index}/{number}", message),
            output_tokens=output,
        )


def _think_s(spec: ThinkTime, random: Random) -> float:
    sigma = log(spec.p90 / spec.median) / Z90
    return min(spec.max, exp(random.gauss(log(spec.median), sigma)))
