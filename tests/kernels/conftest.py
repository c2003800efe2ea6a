"""One set of CPU kernels for the tests: compiling them takes seconds the first time."""

import pytest
from splitweave.kernels.cpu.kernels import CpuKernels


@pytest.fixture(scope="session")
def cpu() -> CpuKernels:
    return CpuKernels()


@pytest.fixture(scope="session")
def one_thread() -> CpuKernels:
    return CpuKernels(threads=1)
