"""A cluster by splitwise-sim's rules: which machine takes a prompt, which its decoding.

    shortest queue   the least booked tokens (prompt tokens to compute, one per answer)
    mixed pool       the same among prompt machines while their queue is below 8 192 tokens,
                     and the least booked memory among token machines; where neither has room
                     a machine of the other pool helps out until it is idle again

KV crosses at 200 GiB/s, each request's over a link of its own, after the prompt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitweave.sim.clock import NS_PER_S
from splitweave.sim.queue import EventQueue

from .splitwise_machine import Cost, Job, Machine, Task

QUEUE_TOKENS_MAX = 8192
LINK_BYTES_PER_S = 200 * 1024**3
RETRY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Machines of one kind."""

    cost: Cost
    count: int
    bytes_max: float = 8 * 80 * 1024**3


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The model's bytes, as they count them: keys and values of full width."""

    bytes: float = 329e9
    token_bytes: float = 2 * 14336 * 70 * 2


class Cluster:
    """Jobs go in by `arrive`; `run` gives them back with their times."""

    def __init__(self, queue: EventQueue, weights: Weights) -> None:
        self._queue, self._weights = queue, weights

    def _machines(self, name: str, kind: Kind) -> list[Machine]:
        weight_bytes = self._weights.bytes
        return [
            Machine(f"{name}-{n}", self._queue, kind.cost, weight_bytes, kind.bytes_max)
            for n in range(kind.count)
        ]

    def run(self, jobs: Sequence[Job]) -> None:
        """All of them, to the end of the last."""
        for job in jobs:
            self._queue.at(round(job.arrived_s * NS_PER_S), self.arrive, job)
        while len(self._queue):
            self._queue.run_until(self._queue.now_ns + NS_PER_S)

    def arrive(self, job: Job) -> None:
        raise NotImplementedError

    def _prompt(self, job: Job) -> Task:
        return Task(job, True, 1, (job.prompt_tokens + 1) * self._weights.token_bytes)

    def _answer(self, job: Job) -> Task:
        steps = job.output_tokens - 1
        return Task(job, False, steps, steps * self._weights.token_bytes)


class ShortestQueue(Cluster):
    """Every machine does both."""

    def __init__(self, queue: EventQueue, weights: Weights, kind: Kind) -> None:
        super().__init__(queue, weights)
        self._all = self._machines("mixed", kind)

    def arrive(self, job: Job) -> None:
        machine = min(self._all, key=_booked_tokens)
        machine.booked_tokens += job.prompt_tokens + 1
        machine.take(self._prompt(job))
        machine.take(self._answer(job))


class MixedPool(Cluster):
    """Splitwise."""

    def __init__(self, queue: EventQueue, weights: Weights, prompt: Kind, token: Kind) -> None:
        super().__init__(queue, weights)
        self._prompters = self._machines("prompt", prompt)
        self._tokeners = self._machines("token", token)
        self._mixed: list[Machine] = []
        self._homes = {id(m): self._prompters for m in self._prompters}
        self._homes |= {id(m): self._tokeners for m in self._tokeners}
        for machine in (*self._prompters, *self._tokeners):
            machine.idle = self._is_idle

    def arrive(self, job: Job) -> None:
        prompt, answer = self._prompt(job), self._answer(job)
        source, target = self._pick(prompt, answer)
        source.booked_bytes += prompt.bytes
        target.booked_bytes += answer.bytes
        source.booked_tokens += job.prompt_tokens
        target.booked_tokens += 1
        if source is not target:
            target.booked_bytes += prompt.bytes
            prompt.after = _Handoff(self._queue, source, target, answer).start
            source.take(prompt)
            return
        source.take(prompt)
        source.take(answer)

    def _pick(self, prompt: Task, answer: Task) -> tuple[Machine, Machine]:
        source = self._with_queue(self._prompters, prompt) or self._with_queue(self._mixed, prompt)
        need = prompt.bytes + answer.bytes
        target = self._with_room(self._tokeners, need) or self._with_room(self._mixed, need)
        if source is None and self._tokeners:
            source = self._mix(min(self._tokeners, key=_booked_tokens))
        if target is None and self._prompters:
            target = self._mix(min(self._prompters, key=_booked_bytes))
        if source is None or target is None:
            everyone = self._prompters + self._mixed + self._tokeners
            source = target = min(everyone, key=_booked_tokens)
        return source, target

    def _with_queue(self, machines: list[Machine], prompt: Task) -> Machine | None:
        best = min(machines, key=_booked_tokens, default=None)
        if best is None or (best.pending and best.booked_tokens + prompt.tokens > QUEUE_TOKENS_MAX):
            return None
        return best

    def _with_room(self, machines: list[Machine], need: float) -> Machine | None:
        best = min(machines, key=_booked_bytes, default=None)
        if best is None or best.booked_bytes + need >= best.bytes_max:
            return None
        return best

    def _mix(self, machine: Machine) -> Machine:
        self._homes[id(machine)].remove(machine)
        self._mixed.append(machine)
        return machine

    def _is_idle(self, machine: Machine) -> None:
        if machine in self._mixed:
            self._mixed.remove(machine)
            self._homes[id(machine)].append(machine)


class _Handoff:
    """One request's KV on its way: it starts when the target has room for it."""

    def __init__(self, queue: EventQueue, source: Machine, target: Machine, answer: Task) -> None:
        self._queue, self._answer = queue, answer
        self._source, self._target = source, target

    def start(self, prompt: Task) -> None:
        self._try(prompt)

    def _try(self, prompt: Task) -> None:
        job, target, now_ns = prompt.job, self._target, self._queue.now_ns
        if target.bytes + job.bytes > target.bytes_max:
            self._queue.at(now_ns + round(RETRY_S * NS_PER_S), self._try, prompt)
            return
        target.bytes += job.bytes
        crossing_s = job.prompt_tokens * prompt.bytes / (job.prompt_tokens + 1) / LINK_BYTES_PER_S
        self._queue.at(now_ns + round(crossing_s * NS_PER_S), self._landed, job)

    def _landed(self, job: Job) -> None:
        self._source.free(job)
        self._target.take(self._answer)
        self._source.nudge()


def _booked_tokens(machine: Machine) -> int:
    return machine.booked_tokens


def _booked_bytes(machine: Machine) -> float:
    return machine.booked_bytes


def jobs_of(rows: Iterable[tuple[float, int, int]]) -> list[Job]:
    """(arrival in seconds, prompt tokens, output tokens) of each."""
    return [Job(*row) for row in rows]
