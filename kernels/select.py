"""Which kernels a device gets."""

from .seam import Kernels


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
