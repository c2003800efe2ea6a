"""A benchmark's closed loop on one replica: so many clients, each asks again when answered.

That is how the silicon points were measured: `concurrency` requests at once, all of one
length, some rounds of them. Between a client's answer and its next first token lies more
than the engine, and a TTFT holds all of it:

    sent -> front end, one request at a time (`turn_s`, `front_s`) -> waits for an iteration
         -> its prefill's iteration (or several) -> first token

With `ahead`, an engine settles the next iteration as one begins (TensorRT-LLM's overlap
scheduler, vLLM's asynchronous one): what comes meanwhile waits for one more. Decode iterations
between two events are taken in one jump (their time is linear in the KV they read), so a
point costs milliseconds; the deciding code of the cluster does not run here.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil
from statistics import mean
from typing import Protocol

from splitweave.sim.costs.work import Prefill, Work


class Cost(Protocol):
    """What an iteration takes."""

    def work_ns(self, work: Work) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Load:
    """`rounds` x `concurrency` requests; `kv_tokens`: what fits into the replica's memory."""

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    kv_tokens: int
    batched_tokens_max: int
    rounds: int = 10


@dataclass(frozen=True, kw_only=True)
class Front:
    """What surrounds the engine. `turn_s`: to a client and back; `front_s`: of one request,
    one after the other; `ahead`: iterations that are settled when a request comes (0 or 1);
    `warm`: the first round, which all begin at once, does not count.
    """

    turn_s: float = 0.0
    front_s: float = 0.0
    ahead: int = 0
    warm: bool = False


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Means over all requests, seconds."""

    ttft_s: float
    tpot_s: float


class ClosedLoop:
    """One run; every request reserves the KV of its whole length when it is admitted."""

    def __init__(self, cost: Cost, load: Load, front: Front | None = None) -> None:
        self._cost, self._load = cost, load
        self._front = front or Front()
        self._now_s = 0.0
        self._begun_s = 0.0  # when the iteration before began
        self._iteration = 0
        self._front_free_s = 0.0
        self._waiting: deque[tuple[float, float]] = deque()  # (at the engine, sent), in order
        self._left = load.concurrency * load.rounds  # to be asked yet
        self._prefilling: deque[tuple[float, int]] = deque()  # sent, tokens computed
        self._decoding: list[tuple[int, float]] = []  # (last iteration, first token), a heap
        self._keys = 0
        self._ttft: list[float] = []
        self._tpot: list[float] = []
        need = load.prompt_tokens + load.output_tokens
        self._seats = max(1, min(load.concurrency, load.kv_tokens // need))
        for _ in range(load.concurrency):
            self._ask(0.0)

    def run(self) -> Latency:
        """To the end of the last request."""
        while self._waiting or self._prefilling or self._decoding:
            self._admit()
            if self._prefilling:
                self._mixed_iteration()
            else:
                self._decode_iterations()
            self._finish()
        skip = self._load.concurrency if self._front.warm else 0
        return Latency(ttft_s=mean(self._ttft[skip:]), tpot_s=mean(self._tpot[skip:]))

    def _ask(self, sent_s: float) -> None:
        if self._left:
            self._left -= 1
            begins_s = max(self._front_free_s, sent_s + self._front.turn_s)
            self._front_free_s = begins_s + self._front.front_s
            self._waiting.append((self._front_free_s, sent_s))

    def _admit(self) -> None:
        """Those that were there when this iteration was settled."""
        if not self._prefilling and not self._decoding:  # idle: it starts as one comes
            self._now_s = max(self._now_s, self._waiting[0][0])
            self._begun_s = self._now_s
        settled_s = self._begun_s if self._front.ahead else self._now_s
        while self._waiting and self._waiting[0][0] <= settled_s and self._seats_free:
            self._prefilling.append((self._waiting.popleft()[1], 0))

    @property
    def _seats_free(self) -> int:
        return self._seats - len(self._prefilling) - len(self._decoding)

    def _mixed_iteration(self) -> None:
        length, decodes = self._load.prompt_tokens, len(self._decoding)
        chunks, sent = self._chunks(self._load.batched_tokens_max - decodes)
        work = Work(tuple(chunks), decodes, self._keys, length, decodes + len(sent))
        self._pass(1, self._cost.work_ns(work) / 1e9)
        self._keys += decodes
        for sent_s in sent:
            self._ttft.append(self._now_s - sent_s)
            last = self._iteration + self._load.output_tokens - 1
            heappush(self._decoding, (last, self._now_s))
            self._keys += length + 1

    def _chunks(self, budget: int) -> tuple[list[Prefill], list[float]]:
        """What of the prompts this iteration computes, and when those that end were sent."""
        length = self._load.prompt_tokens
        chunks: list[Prefill] = []
        ended: list[float] = []
        while self._prefilling and budget > 0:
            sent_s, done = self._prefilling[0]
            tokens = min(length - done, budget)
            self._prefilling.popleft()
            chunks.append(Prefill(tokens, done))
            budget -= tokens
            if done + tokens < length:
                self._prefilling.appendleft((sent_s, done + tokens))
            else:
                ended.append(sent_s)
        return chunks, ended

    def _decode_iterations(self) -> None:
        steps, decodes = self._decoding[0][0] - self._iteration, len(self._decoding)
        if self._waiting and self._seats_free:
            one_s = self._cost.work_ns(Work((), decodes, self._keys, 0, decodes)) / 1e9
            until = ceil((self._waiting[0][0] - self._now_s) / one_s) + self._front.ahead
            steps = min(steps, max(1, until))
        middle = self._keys + decodes * (steps - 1) // 2
        work = Work((), decodes, middle, middle // decodes, decodes)
        self._pass(steps, self._cost.work_ns(work) / 1e9)
        self._keys += decodes * steps

    def _pass(self, steps: int, each_s: float) -> None:
        self._now_s += steps * each_s
        self._begun_s = self._now_s - each_s
        self._iteration += steps

    def _finish(self) -> None:
        while self._decoding and self._decoding[0][0] <= self._iteration:
            _, first_s = heappop(self._decoding)
            tokens = self._load.output_tokens
            self._tpot.append((self._now_s - first_s) / (tokens - 1))
            self._keys -= self._load.prompt_tokens + tokens
            self._ask(self._now_s)
