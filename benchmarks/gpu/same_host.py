"""For information: the bytes of a copy through CUDA IPC, between two processes of one GPU."""

import time
from functools import partial
from typing import Any

import torch
from gpu_outcome import Findings
from settings import MIB, Settings
from timing import seconds_each

WAIT_S = 30.0


def cuda_ipc(findings: Findings, settings: Settings) -> None:
    """The target maps the source's memory and copies it into its own."""
    from torch import multiprocessing

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    target = context.Process(target=_copy, args=(theirs, settings.device), daemon=True)
    target.start()
    size = settings.large_bytes
    payload = torch.ones(size, dtype=torch.uint8, device=settings.device)
    ours.send(payload)
    if not ours.poll(WAIT_S):
        raise TimeoutError(f"the other process did not answer in {WAIT_S:.0f} s")
    opening_s, each_s, equal = ours.recv()
    ours.send("done")
    target.join(WAIT_S)
    findings.claim("mapped memory holds the source's bytes", equal)
    findings.figure("mapping a peer's memory, once", opening_s * 1e3, "ms")
    findings.figure(f"copies of {size // MIB} MiB", size / each_s / 1e9, "GB/s")


def _copy(pipe: Any, device: str) -> None:
    began_at = time.perf_counter()
    theirs = pipe.recv()
    place = torch.empty_like(theirs)
    opening_s = time.perf_counter() - began_at
    each_s = seconds_each(partial(place.copy_, theirs), device, 0.5)
    pipe.send((opening_s, each_s, bool((place == 1).all())))
    pipe.poll(WAIT_S)  # the source keeps its memory until we are through
    del theirs
