"""Which kernels a device gets."""

from .seam import BlockCopy, Kernels


def select(device: str) -> Kernels:
    """The kernels for a torch device string such as "cpu" or "cuda:0".

    "cpu" gets the exact ones. Every other device gets the plain-torch
    reference, whose rows are not independent of the batch they are in.
    """
    if device == "cpu":
        from .cpu.kernels import CpuKernels

        return CpuKernels()
    from .reference import ReferenceKernels

    return ReferenceKernels()


def select_block_copy(device: str) -> BlockCopy:
    """What gathers and scatters KV blocks on a torch device: Triton's on CUDA, else torch's."""
    if device.startswith("cuda"):
        from .gpu import block_copy as on_gpu

        return on_gpu
    from . import block_copy

    return block_copy
