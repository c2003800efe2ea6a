"""The Triton copies of KV blocks: interpreted they equal the reference, compiled they are wide."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
import triton
from splitweave.kernels import block_copy as reference
from splitweave.kernels.gpu import block_copy
from splitweave.kernels.select import select_block_copy
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)
# layers, blocks of the cache, heads, tokens, head size; blocks moved; heads moved
CASES = {
    "all heads": ((2, 5, 3, 4, 8), (4, 0, 2), (0, 3)),
    "one head": ((2, 5, 3, 4, 8), (1,), (1, 2)),
    "last heads, not a power of two": ((1, 4, 5, 2, 12), (3, 1), (2, 5)),
    "a run of several chunks": ((1, 3, 2, 16, 80), (2, 0), (0, 2)),
    "every block, backwards": ((1, 6, 1, 4, 4), (5, 4, 3, 2, 1, 0), (0, 1)),
    "nothing": ((1, 3, 2, 4, 4), (), (0, 2)),
}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module once more, its kernels run by Triton's interpreter, on CPU tensors."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    spec = importlib.util.spec_from_file_location("interpreted_copy", Path(block_copy.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


def cache_of(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    layers, *rest = shape
    noise = torch.randint(0, 256, (layers, 2, *rest[:-1], rest[-1] * dtype.itemsize)).byte()
    return noise.view(dtype)  # any bits: NaN and all


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gather_and_scatter_equal_the_reference_bit_for_bit(
    interpreted: ModuleType, name: str, dtype: torch.dtype
) -> None:
    shape, moved, (first, last) = CASES[name]
    torch.manual_seed(1)
    cache, blocks = cache_of(shape, dtype), torch.tensor(moved, dtype=torch.int64)
    message = interpreted.gather(cache, blocks, first, last)
    assert torch.equal(bits(message), bits(reference.gather(cache, blocks, first, last)))
    ours, theirs = cache_of(shape, dtype), torch.empty(0)
    theirs = ours.clone()
    interpreted.scatter(ours, blocks, first, last, message)
    reference.scatter(theirs, blocks, first, last, message)
    assert torch.equal(bits(ours), bits(theirs))


def test_a_slice_of_layers_is_copied_from_its_place(interpreted: ModuleType) -> None:
    torch.manual_seed(2)
    cache, blocks = cache_of((4, 3, 2, 4, 4), torch.float32), torch.tensor([2, 1])
    message = interpreted.gather(cache[1:3], blocks, 0, 2)
    assert torch.equal(bits(message), bits(cache[1:3][:, :, [2, 1]]))
    other = torch.zeros_like(cache)
    interpreted.scatter(other[1:3], blocks, 0, 2, message)
    assert torch.equal(bits(other[1:3][:, :, [2, 1]]), bits(message))
    assert not other[[0, 3]].any()


@pytest.mark.parametrize("kernel", [block_copy.gather_kernel, block_copy.scatter_kernel])
@pytest.mark.parametrize("run", [2048, 960, 16 * 64 * 3], ids=lambda words: f"run of {words}")
def test_compiled_for_hopper_every_word_moves_in_sixteen_byte_loads_and_stores(
    kernel: triton.JITFunction, run: int
) -> None:
    signature = {
        "cache": "*i32", "message": "*i32", "blocks": "*i64", "plane_words": "i64",
        "block_words": "i32", "first_word": "i32", "RUN": "constexpr", "CHUNK": "constexpr",
    }  # fmt: skip
    # What the JIT finds out by itself: pointers and strides are multiples of 16.
    divisible = {(argument,): [["tt.divisibility", 16]] for argument in range(6)}
    chunk = min(block_copy.CHUNK_WORDS_MAX, triton.next_power_of_2(run))
    compiled = triton.compile(
        ASTSource(kernel, signature, {"RUN": run, "CHUNK": chunk}, divisible),
        target=HOPPER,
        options={"num_warps": block_copy.WARPS},
    )
    ptx = compiled.asm["ptx"]
    assert compiled.asm["cubin"]
    wide = chunk // (block_copy.WARPS * 32 * 4)  # loads of each thread
    assert len(re.findall(r"ld\.global(?:\.\w+)*\.v4\.b32", ptx)) == wide
    assert len(re.findall(r"st\.global(?:\.\w+)*\.v4\.b32", ptx)) == wide
    scalar = re.findall(r"(?:ld|st)\.global(?:\.(?!v4)\w+)* ", ptx)
    assert len(scalar) == 1, scalar  # the block's number


def test_a_cache_that_is_not_contiguous_is_refused(interpreted: ModuleType) -> None:
    cache = cache_of((2, 3, 2, 4, 4), torch.float32)
    with pytest.raises(AssertionError):
        interpreted.gather(cache.transpose(0, 1), torch.tensor([0]), 0, 2)


def test_cuda_gets_the_triton_copies_and_a_cpu_the_reference() -> None:
    assert select_block_copy("cpu") is reference
    assert select_block_copy("cuda") is select_block_copy("cuda:1") is block_copy
