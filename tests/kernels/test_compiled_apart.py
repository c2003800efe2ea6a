"""Kernels compiled in processes of their own: caches, readers at once, narrower CPUs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from splitweave.kernels.cpu import emit

WAIT_S = 90.0
# Compiles the smallest kernel and calls it; says how often the cache was of use.
ONE_KERNEL = """
import numpy
from splitweave.kernels.cpu import rows
x, y = numpy.ones((2, 32), numpy.float32), numpy.zeros((2, 16), numpy.float32)
rows.gate(x.ctypes.data, 32, y.ctypes.data, 2, 16, 1)
print(rows.__file__, sum(rows.gate.stats.cache_hits.values()), y.sum(dtype=float).hex())
"""
# Every kernel on fixed inputs, down to one digest per kernel.
ALL_KERNELS = """
import hashlib, json, re, sys
from llvmlite import binding
features = dict(binding.get_host_cpu_features())
if sys.argv[1] == "avx2":
    for name in features:
        features[name] = features[name] and not name.startswith(("avx512", "avx10", "amx", "evex"))
    binding.get_host_cpu_features = lambda: features
    numba_features = ",".join(("+" if on else "-") + name for name, on in features.items())
    import os
    os.environ.update(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=numba_features)
import torch
from paged_batches import paged_batch
from splitweave.kernels.cpu import tile
from splitweave.kernels.cpu.kernels import CpuKernels
from splitweave.kernels.cpu.rows import rope_store
def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
kernels, batch = CpuKernels(), paged_batch([70, 33, 1])
q, k, layer = random(9, 4, 64), random(9, 2, 64), torch.zeros(2, 3, 2, 4, 64)
places = torch.arange(9).int()
cos, sin = random(9, 32), random(10, 32)
kernels.rope_store(q, k, k + 1, cos, sin, places, places, layer)
results = {
    "linear": kernels.linear(random(50, 333), kernels.pack(random(100, 333)), random(100)),
    "norm": kernels.rms_norm(random(7, 208), random(208), 1e-5),
    "gate": kernels.silu_mul(20 * random(7, 224)),
    "rope": torch.cat([q.flatten(), layer.flatten()]),
    "attention": kernels.paged_attention(
        batch.q_THD, batch.kv_layer, batch.block_tables_SB, batch.sequence_T,
        batch.positions_T, 0.125),
}
said = {name: hashlib.sha256(y.numpy().tobytes()).hexdigest() for name, y in results.items()}
code = "".join(rope_store.inspect_asm().values())  # empty if it came from the cache
print(json.dumps([said, tile.ROWS_MAX, sorted(set(re.findall("[xyz]mm(?=\\d)", code)))]))
"""

# Two threads that call a kernel on all cores, over and over.
CALLERS = """
import numba, threading, torch
from splitweave.kernels.cpu.kernels import CpuKernels
kernels, x = CpuKernels(), torch.ones(400, 512)
packed = kernels.pack(torch.ones(512, 512))
def call():
    for _ in range(50):
        assert (kernels.linear(x, packed) == 512).all()
callers = [threading.Thread(target=call) for _ in range(2)]
for thread in callers: thread.start()
for thread in callers: thread.join()
print(numba.threading_layer())
"""


def start(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    try:
        out, error = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, error
    return out.strip()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the package's kernels, never compiled."""
    package = tmp_path / "installed" / "splitweave"
    no_cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kernels", package / "kernels", ignore=no_cache)
    shutil.copy(ROOT / "__init__.py", package)
    return package


def test_where_the_package_cannot_be_written_the_users_cache_folder_is_used(
    copied: Path, tmp_path: Path
) -> None:
    # A file in the way stops root too, whom no permission stops.
    (copied / "kernels" / "cpu" / "__pycache__").write_text("")
    home = tmp_path / "home"
    environment = {
        "PYTHONPATH": f"{copied.parent}{os.pathsep}{os.pathsep.join(sys.path)}",
        "XDG_CACHE_HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    first = said(start(ONE_KERNEL, **environment)).split()
    again = said(start(ONE_KERNEL, **environment)).split()
    assert Path(first[0]).is_relative_to(copied)
    assert [first[1], again[1]] == ["0", "1"]
    assert first[2] == again[2]
    assert list(home.rglob("rows.gate*.nbc"))


def test_processes_that_compile_at_once_both_work_and_leave_a_good_cache(tmp_path: Path) -> None:
    both = [start(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    answers = [said(process).split() for process in both]
    assert answers[0][2] == answers[1][2]
    _, hits, value = said(start(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path))).split()
    assert [hits, value] == ["1", answers[0][2]]


def test_numbas_simplest_thread_pool_survives_calls_from_two_threads() -> None:
    """It ends the process if they overlap; machines without OpenMP have no other."""
    assert said(start(CALLERS, NUMBA_THREADING_LAYER="workqueue")) == "workqueue"


@pytest.mark.skipif(not emit.HAS_AVX512, reason="needs AVX-512, to compare AVX2 with it")
def test_a_cpu_with_half_the_vector_width_gives_equal_bits(tmp_path: Path) -> None:
    """Mixed fleets: other registers, another tile, the same chains."""
    narrow = start(ALL_KERNELS, "avx2", NUMBA_CACHE_DIR=str(tmp_path))
    wide = start(ALL_KERNELS, "host")
    bits, rows_max, registers = json.loads(said(narrow))
    host_bits, host_rows_max, _ = json.loads(said(wide))
    assert "ymm" in registers
    assert "zmm" not in registers
    assert [rows_max, host_rows_max] == [6, 12]
    assert bits == host_bits
