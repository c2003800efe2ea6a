"""One machine by splitwise-sim's rules: how its iterations are put together.

These rules are theirs, not ours (Mutinifni/splitwise-sim, SplitwiseInstance), kept here to
be compared with. They differ from `WorkerCore`:

    prompts are never cut; those that wait go first, as many as the iteration has tokens for
    decodes are set aside for them, and run anyway when that has happened four times
    a decode iteration repeats until its batch changes
    memory is taken for a prompt as it starts, for all of the answer as decoding starts

Queue and clock are ours (`sim.queue`), iteration times come from whatever cost is given.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from splitweave.sim.clock import NS_PER_S
from splitweave.sim.queue import EventQueue

BATCH_MAX, TOKENS_MAX, SET_ASIDE_MAX = 512, 2048, 4
LOOK_AGAIN = 64  # iterations, where their time depends on the context


class Cost(Protocol):
    """Seconds of one iteration; `contexts` are the tokens of KV that each decode reads."""

    context_matters: bool

    def iteration_s(self, prompt_tokens: int, contexts: list[int]) -> float: ...


@dataclass(slots=True, eq=False)
class Job:
    """A request: what was asked, and when it got what (seconds)."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float = 0.0
    decoded_s: float = 0.0  # its decoding began
    last_s: float = 0.0
    bytes: float = 0.0  # that it holds


@dataclass(slots=True, eq=False)
class Task:
    """A job's prompt, or its decoding."""

    job: Job
    is_prompt: bool
    left: int  # iterations
    bytes: float  # that it takes as it starts
    steps: int = 0  # of the running iterations
    set_aside: int = 0
    started: bool = False
    after: "Callable[[Task], None] | None" = None

    @property
    def tokens(self) -> int:
        """Of one iteration."""
        return self.job.prompt_tokens if self.is_prompt else 1

    @property
    def context(self) -> int:
        return self.job.prompt_tokens + self.job.output_tokens - self.left


def _waited(task: Task) -> tuple[int, float]:
    return task.set_aside, task.job.arrived_s


def _arrived(job: Job) -> float:
    return job.arrived_s


@dataclass(slots=True)
class _Choice:
    """The next batch, as it is put together."""

    bytes: float
    bytes_max: float
    tasks: list[Task] = field(default_factory=list)
    jobs: set[int] = field(default_factory=set)
    tokens: int = 0

    def full(self, task: Task) -> bool:
        if len(self.tasks) == BATCH_MAX:
            return True
        return bool(self.tasks) and self.tokens + task.tokens > TOKENS_MAX

    def has(self, task: Task) -> bool:
        return id(task.job) in self.jobs

    def add(self, task: Task) -> bool:
        """Take it, if its memory is there: what has started has its memory."""
        if not task.started and self.bytes + task.bytes > self.bytes_max:
            return False
        self.bytes += 0.0 if task.started else task.bytes
        self.tasks.append(task)
        self.jobs.add(id(task.job))
        self.tokens += task.tokens
        return True


class Machine:
    """One replica."""

    def __init__(
        self, name: str, queue: EventQueue, cost: Cost, weight_bytes: float, bytes_max: float
    ) -> None:
        self.name = name
        self.bytes = self.booked_bytes = weight_bytes
        self.bytes_max = bytes_max
        self.booked_tokens = 0
        self.idle: Callable[[Machine], None] | None = None
        self.pending: list[Task] = []
        self._queue, self._cost = queue, cost
        self._prompts: list[Task] = []
        self._aside: list[Task] = []
        self._jobs: list[Job] = []
        self._tasks: dict[int, list[Task]] = {}
        self._batch: list[Task] = []
        self._prompts_running = 0
        self._tokens = 0
        self._steps = 0
        self._began_s = self._each_s = 0.0
        self._round = 0
        self._cut = False

    @property
    def now_s(self) -> float:
        return self._queue.now_ns / NS_PER_S

    def take(self, task: Task) -> None:
        """A task arrives."""
        own = self._tasks.setdefault(id(task.job), [])
        if not own:
            insort(self._jobs, task.job, key=_arrived)
        own.append(task)
        self._wait(task)
        if not self._batch:
            if self.bytes + task.bytes <= self.bytes_max:
                self._start()
        elif (
            len(self._batch) < BATCH_MAX and self._tokens + task.tokens <= TOKENS_MAX
        ) or self._may_set_aside(task):
            self._stop_early()

    def free(self, job: Job) -> None:
        """A job's memory is free."""
        self.bytes -= job.bytes
        self.booked_bytes -= job.bytes

    def nudge(self) -> None:
        """Memory has become free."""
        if not self.pending:
            return
        if not self._batch:
            if self.bytes + self.pending[0].bytes <= self.bytes_max:
                self._start()
        elif len(self._batch) < BATCH_MAX and self._tokens < TOKENS_MAX:
            self._stop_early()

    def _may_set_aside(self, task: Task) -> bool:
        prompts = self._tokens - (len(self._batch) - self._prompts_running)
        return (
            task.is_prompt
            and self._prompts_running < len(self._batch)
            and prompts + task.tokens <= TOKENS_MAX
        )

    def _wait(self, task: Task) -> None:
        insort(self.pending, task, key=_waited)
        if task.is_prompt:
            self._prompts.append(task)

    def _choose(self) -> list[Task]:
        chosen = _Choice(self.bytes, self.bytes_max)
        for task in self.pending:
            if task.set_aside < SET_ASIDE_MAX or chosen.full(task):
                break
            if not chosen.has(task):
                chosen.add(task)
        self._fill(chosen, self._prompts)
        self._fill(chosen, self._aside)
        self._fill(chosen, self._batch)
        heads = [self._tasks[id(job)][0] for job in self._jobs]
        self._fill(chosen, [task for task in heads if not chosen.has(task)])
        self._tokens = chosen.tokens
        return chosen.tasks

    def _fill(self, chosen: _Choice, tasks: list[Task]) -> None:
        for task in tasks:
            if chosen.full(task) or not (chosen.has(task) or chosen.add(task)):
                return

    def _start(self) -> None:
        """The next iterations."""
        chosen = self._choose()
        kept, before = {id(task) for task in chosen}, {id(task) for task in self._batch}
        for task in self._batch:
            if id(task) not in kept:
                self._wait(task)
                self._aside.append(task)
        for task in chosen:
            if id(task) not in before:
                self._begin(task)
        old = [task for task in self._batch if id(task) in kept]
        self._batch = old + [task for task in chosen if id(task) not in before]
        for job in self._jobs:
            head = self._tasks[id(job)][0]
            head.set_aside += id(head) not in kept
        self._prompts_running = sum(task.is_prompt for task in self._batch)
        if self._batch:
            self._run()
        elif not self._jobs and self.idle is not None:
            self.idle(self)

    def _begin(self, task: Task) -> None:
        self.pending.remove(task)
        if task.is_prompt:
            self._prompts.remove(task)
        if task in self._aside:
            self._aside.remove(task)
        if not task.started:
            task.started = True
            self.bytes += task.bytes
            task.job.bytes += task.bytes
            if not task.is_prompt:
                task.job.decoded_s = self.now_s

    def _run(self) -> None:
        prompt_tokens = sum(task.tokens for task in self._batch if task.is_prompt)
        contexts = [task.context for task in self._batch if not task.is_prompt]
        self._each_s = self._cost.iteration_s(prompt_tokens, contexts)
        self._steps = 1 if prompt_tokens else min(task.left for task in self._batch)
        if self._cost.context_matters:
            self._steps = min(self._steps, LOOK_AGAIN)
        self._began_s = self.now_s
        self._schedule()

    def _schedule(self) -> None:
        for task in self._batch:
            task.steps = self._steps
        self._round += 1
        at_s = self._began_s + self._steps * self._each_s
        self._queue.at(round(at_s * NS_PER_S), self._end, self._round)

    def _stop_early(self) -> None:
        """End after the iteration that runs now."""
        if self._cut or self._prompts_running:
            return
        self._cut = True
        passed = int((self.now_s - self._began_s) // self._each_s)
        self._steps = min(self._steps, passed + 1)
        self._schedule()

    def _end(self, round_: int) -> None:
        if round_ != self._round:
            return
        ended = []
        for task in self._batch:
            task.left -= task.steps
            if task.left == 0:
                ended.append(task)
        for task in ended:
            self._leave(task)
        self._cut = False
        self._start()

    def _leave(self, task: Task) -> None:
        job = task.job
        self._batch.remove(task)
        own = self._tasks[id(job)]
        own.remove(task)
        if not own:
            self._jobs.remove(job)
            del self._tasks[id(job)]
        if task.is_prompt:
            self.booked_tokens -= job.prompt_tokens
            job.first_s = self.now_s
        else:
            self.booked_tokens -= 1
            self.free(job)
            job.last_s = self.now_s
        if task.after is not None:
            task.after(task)
