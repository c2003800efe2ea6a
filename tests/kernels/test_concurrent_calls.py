"""Calls from many Python threads, and every thread count: equal bits, and an end."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import numba
import pytest
import torch
from paged_batches import paged_batch
from splitweave.kernels.cpu.kernels import CpuKernels
from torch import Tensor

CALLERS = 4
WAIT_S = 60.0
Call = Callable[[CpuKernels], Tensor]


def calls() -> dict[str, Call]:
    """Each big enough to be spread over threads."""
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(150, 512, generator=seeded)
    packed = CpuKernels().pack(torch.randn(300, 512, generator=seeded))
    weight = torch.randn(512, generator=seeded)
    batch = paged_batch([90, 33, 1])

    def add_norm(kernels: CpuKernels) -> Tensor:
        residual = x.flip(0).contiguous()
        return torch.cat([kernels.add_rms_norm(x, residual, weight, 1e-5), residual])

    return {
        "linear": lambda kernels: kernels.linear(x, packed),
        "norm": lambda kernels: kernels.rms_norm(x, weight, 1e-5),
        "add_norm": add_norm,
        "gate": lambda kernels: kernels.silu_mul(x),
        "attention": lambda kernels: kernels.paged_attention(
            batch.q_THD, batch.kv_layer, batch.block_tables_SB, batch.sequence_T,
            batch.positions_T, 0.125,
        ),
    }  # fmt: skip


CALLS = calls()


@contextmanager
def callers(count: int) -> Iterator[Callable[[Callable[[], Tensor]], list[Tensor]]]:
    """Runs one function on `count` new threads that set out together."""
    with ThreadPoolExecutor(count) as pool:
        together = Barrier(count)

        def run(call: Callable[[], Tensor]) -> list[Tensor]:
            def one(_place: int) -> Tensor:
                together.wait(WAIT_S)
                return call()

            return list(pool.map(one, range(count), timeout=WAIT_S))

        yield run


@pytest.mark.parametrize("name", CALLS)
def test_every_thread_count_gives_equal_bits(name: str) -> None:
    expected = CALLS[name](CpuKernels(threads=1))
    for threads in range(2, numba.config.NUMBA_NUM_THREADS + 1):
        assert torch.equal(CALLS[name](CpuKernels(threads=threads)), expected)


@pytest.mark.parametrize("name", CALLS)
def test_threads_that_call_at_once_get_what_one_gets_alone(cpu: CpuKernels, name: str) -> None:
    expected = CALLS[name](cpu)
    with callers(CALLERS) as together:
        for _ in range(5):
            assert all(torch.equal(y, expected) for y in together(lambda: CALLS[name](cpu)))


def test_unlike_kernels_may_run_at_once(cpu: CpuKernels) -> None:
    expected = [call(cpu) for call in CALLS.values()]
    with ThreadPoolExecutor(len(CALLS)) as pool:
        for _ in range(5):
            asked = [pool.submit(call, cpu) for call in CALLS.values()]
            results = [future.result(WAIT_S) for future in asked]
            assert all(torch.equal(y, e) for y, e in zip(results, expected, strict=True))


def test_the_thread_count_is_the_instances_on_every_calling_thread(cpu: CpuKernels) -> None:
    """numba keeps the count per thread: a new caller begins with all cores."""

    def threads_after_a_call(kernels: CpuKernels) -> int:
        CALLS["norm"](kernels)
        return int(numba.get_num_threads())

    with ThreadPoolExecutor(1) as elsewhere:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            asked = elsewhere.submit(threads_after_a_call, CpuKernels(threads=threads))
            assert asked.result(WAIT_S) == threads


def test_a_call_that_is_refused_leaves_the_pool_to_the_next(cpu: CpuKernels) -> None:
    batch = paged_batch([3])
    with pytest.raises(TypeError):
        cpu.paged_attention(
            batch.q_THD, batch.kv_layer, batch.block_tables_SB.long(), batch.sequence_T,
            batch.positions_T, 0.125,
        )  # fmt: skip
    with ThreadPoolExecutor(1) as elsewhere:
        again = elsewhere.submit(CALLS["attention"], cpu).result(WAIT_S)
    assert torch.equal(again, CALLS["attention"](cpu))
