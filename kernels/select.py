"""Which kernels a device gets."""

from .seam import Kernels


def select(device: str) -> Kernels:
    """The kernels for a torch device string.

    "cpu" gets the exact ones. Every other device gets the plain-torch
    reference, whose rows are *not* independent of the batch.
    """
    if device == "cpu":
        try:
            from .cpu.kernels import CpuKernels
        except ImportError:
            from .reference import ReferenceKernels
            return ReferenceKernels()
        return CpuKernels()
    from .reference import ReferenceKernels

    return ReferenceKernels()
