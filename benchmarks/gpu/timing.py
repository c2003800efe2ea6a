"""How long the device takes for something, by its own clock where it has one."""

import statistics
import time
from collections.abc import Callable

import torch

ROUNDS = 5


def seconds_each(action: Callable[[], object], device: str, budget_s: float) -> float:
    """The median of rounds that together last about `budget_s`, after a warm-up."""
    action()
    one = max(1e-6, _round(action, device, 1))
    repeats = max(1, int(budget_s / ROUNDS / one))
    return statistics.median(_round(action, device, repeats) for _ in range(ROUNDS))


def _round(action: Callable[[], object], device: str, repeats: int) -> float:
    if not device.startswith("cuda"):
        began_at = time.perf_counter()
        for _ in range(repeats):
            action()
        return (time.perf_counter() - began_at) / repeats
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        action()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats
