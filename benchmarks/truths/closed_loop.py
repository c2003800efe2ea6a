"""A benchmark's closed loop on one replica: so many clients, each asks again when answered.

That is how the silicon points were measured: `concurrency` requests at once, all of one
length, some rounds of them, the first burst included. Decode iterations between two events
are taken in one jump (their time is linear in the KV they read), so a point costs
milliseconds; the deciding code of the cluster does not run here.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from statistics import mean

from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.work import Prefill, Work


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
class Latency:
    """Means over all requests, seconds."""

    ttft_s: float
    tpot_s: float


class ClosedLoop:
    """One run; every request reserves the KV of its whole length when it is admitted."""

    def __init__(self, cost: DeviceRoofline, load: Load) -> None:
        self._cost, self._load = cost, load
        self._now_s = 0.0
        self._iteration = 0
        self._waiting: deque[float] = deque([0.0] * load.concurrency)  # when each arrived
        self._left = load.concurrency * (load.rounds - 1)  # to be asked yet
        self._prefilling: deque[tuple[float, int]] = deque()  # arrived, tokens computed
        self._decoding: list[tuple[int, float]] = []  # (last iteration, first token), a heap
        self._keys = 0
        self._ttft: list[float] = []
        self._tpot: list[float] = []
        need = load.prompt_tokens + load.output_tokens
        self._seats = max(1, min(load.concurrency, load.kv_tokens // need))

    def run(self) -> Latency:
        """To the end of the last request."""
        while self._waiting or self._prefilling or self._decoding:
            self._admit()
            if self._prefilling:
                self._mixed_iteration()
            else:
                self._decode_iterations()
            self._finish()
        return Latency(ttft_s=mean(self._ttft), tpot_s=mean(self._tpot))

    def _admit(self) -> None:
        while self._waiting and len(self._prefilling) + len(self._decoding) < self._seats:
            self._prefilling.append((self._waiting.popleft(), 0))

    def _mixed_iteration(self) -> None:
        length, decodes = self._load.prompt_tokens, len(self._decoding)
        budget = self._load.batched_tokens_max - decodes
        chunks: list[Prefill] = []
        arrived: list[float] = []
        while self._prefilling and budget > 0:
            since, done = self._prefilling.popleft()
            tokens = min(length - done, budget)
            chunks.append(Prefill(tokens, done))
            budget -= tokens
            if done + tokens < length:
                self._prefilling.appendleft((since, done + tokens))
            else:
                arrived.append(since)
        work = Work(tuple(chunks), decodes, self._keys, length, decodes + len(arrived))
        self._now_s += self._cost.work_ns(work) / 1e9
        self._iteration += 1
        self._keys += decodes
        for since in arrived:
            self._ttft.append(self._now_s - since)
            last = self._iteration + self._load.output_tokens - 1
            heappush(self._decoding, (last, self._now_s))
            self._keys += length + 1

    def _decode_iterations(self) -> None:
        steps, decodes = self._decoding[0][0] - self._iteration, len(self._decoding)
        middle = self._keys + decodes * (steps - 1) // 2
        work = Work((), decodes, middle, middle // decodes, decodes)
        self._now_s += steps * self._cost.work_ns(work) / 1e9
        self._iteration += steps
        self._keys += decodes * steps

    def _finish(self) -> None:
        while self._decoding and self._decoding[0][0] <= self._iteration:
            _, first_s = heappop(self._decoding)
            tokens = self._load.output_tokens
            self._tpot.append((self._now_s - first_s) / (tokens - 1))
            self._keys -= self._load.prompt_tokens + tokens
            if self._left:
                self._left -= 1
                self._waiting.append(self._now_s)
