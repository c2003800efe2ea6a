"""Sections on the machine and on the kernels that gather and scatter KV blocks."""

import platform
from collections.abc import Callable
from functools import partial

import torch
from gpu_outcome import Findings
from settings import MIB, Settings
from splitweave.kernels import block_copy as reference
from splitweave.kernels.select import select_block_copy
from timing import seconds_each

SHARE_MIN = 0.7  # of what a plain copy of as many bytes reaches
# layers, blocks, heads, tokens, head size: SmolLM2-135M, Llama 8B, Llama 70B on eight GPUs
SHAPES = {
    "SmolLM2-135M": (30, 256, 3, 16, 64),
    "8B": (32, 256, 8, 16, 128),
    "70B, one of 8 ranks": (80, 256, 1, 16, 128),
    "odd sizes": (2, 40, 5, 3, 12),
}


def machine(findings: Findings, settings: Settings) -> None:  # noqa: ARG001
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    findings.claim("GPU", True, f"{properties.name}, sm_{properties.major}{properties.minor}")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    findings.claim("versions", True, f"{versions}, CUDA {torch.version.cuda}, Triton {_triton()}")
    nccl = torch.distributed.is_nccl_available()
    findings.claim("torch has NCCL", nccl, torch.cuda.nccl.version() if nccl else "")
    findings.figure("GPU memory", total / 2**30, "GiB")
    findings.figure("of it free", free / 2**30, "GiB")


def block_copies(findings: Findings, settings: Settings) -> None:
    for name in (*settings.shapes, "odd sizes"):
        _equal(findings, name, SHAPES[name], settings.device)
    for name in settings.shapes:
        _timed(findings, name, SHAPES[name], settings)


def _equal(findings: Findings, name: str, shape: tuple[int, ...], device: str) -> None:
    ours = select_block_copy(device)
    cache = _cache(shape, device)
    layers, count, heads = shape[0], shape[1], shape[2]
    blocks = torch.randperm(count, device=device)[: max(1, count // 3)]
    for first, last in {(0, heads), (heads // 2, heads)}:
        message = ours.gather(cache[1:layers], blocks, first, last)
        same = torch.equal(message, reference.gather(cache[1:layers], blocks, first, last))
        one, two = torch.zeros_like(cache), torch.zeros_like(cache)
        ours.scatter(one[1:layers], blocks, first, last, message)
        reference.scatter(two[1:layers], blocks, first, last, message)
        claim = f"{name}: gather and scatter of heads {first}-{last} equal the reference"
        findings.claim(claim, same and torch.equal(one, two))


def _timed(findings: Findings, name: str, shape: tuple[int, ...], settings: Settings) -> None:
    device, budget_s = settings.device, settings.seconds / 4
    ours, cache = select_block_copy(device), _cache(shape, device)
    layers, count, heads = shape[0], shape[1], shape[2]
    for moved, planes in ((count // 2, layers), (16, min(4, layers))):
        held = cache[:planes]
        blocks = torch.randperm(count, device=device)[:moved]
        message = ours.gather(held, blocks, 0, heads)
        both = 2 * message.numel() * message.element_size()  # read and written
        other = torch.empty_like(message)
        ways: dict[str, Callable[[], object]] = {
            "plain copy": partial(other.copy_, message),
            "gather": partial(ours.gather, held, blocks, 0, heads),
            "scatter": partial(ours.scatter, held, blocks, 0, heads, message),
            "gather by torch": partial(reference.gather, held, blocks, 0, heads),
        }
        rates = {way: both / seconds_each(run, device, budget_s) for way, run in ways.items()}
        for way, rate in rates.items():
            what = f"{name}, {both / 2 / MIB:.3g} MiB: {way}"
            findings.figure(what, rate / 1e9, "GB/s")
        large = both > 64 * MIB
        if large and device.startswith("cuda"):
            share = min(rates["gather"], rates["scatter"]) / rates["plain copy"]
            claim = f"{name}: at least {SHARE_MIN:.0%} of a plain copy"
            findings.claim(claim, share >= SHARE_MIN, f"{share:.0%}")


def _cache(shape: tuple[int, ...], device: str) -> torch.Tensor:
    layers, *rest = shape
    generator = torch.Generator(device).manual_seed(3)
    return torch.randn((layers, 2, *rest), generator=generator, device=device)


def _triton() -> str:
    import triton

    return str(triton.__version__)
