"""What the NCCL backend stands on: one communicator of two ranks on one device.

The protocol is the lowest seam: all else of the backend runs over any
`Communicator`. `NcclCommunicator` is a bare ProcessGroupNCCL, without a global
group. Written from torch's source and NCCL's documents; `benchmarks/gpu/run.py`
is what runs it.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Tensor

from ..nccl_limits import NcclLimits
from .backend import PairError, Rendezvous
from .copy_stream import CopyStream
from .gloo import first_line

# Read by torch and NCCL when the first group is made.
#   ASYNC_ERROR_HANDLING  default 3: a late operation ends the process; our deadlines act instead
#   ENABLE_MONITORING     a thread that ends the process when it takes torch's watchdog for stuck
#   LAUNCH_ORDER_IMPLICIT communicators of one device run in the order of their launches
ENVIRONMENT = {
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
    "TORCH_NCCL_ENABLE_MONITORING": "0",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
    "NCCL_LAUNCH_ORDER_IMPLICIT": "1",
}


class Verb(StrEnum):
    """Which way the chunks of one launch go."""

    SEND = "send"
    RECV = "recv"


class Launched(Protocol):
    """A launch on its way."""

    def is_completed(self) -> bool:
        """Whether the device is through with it. RuntimeError if the communicator is broken;
        True also after an abort, with part of the bytes.
        """
        ...


class Communicator(Protocol):
    """Two ranks that are connected."""

    def launch(self, verb: Verb, chunks: Sequence[Tensor], tags: Sequence[int]) -> Launched:
        """Start all chunks as one group, on a stream of the communicator's own, behind what
        the copy stream has been given. RuntimeError if it is broken.
        """
        ...

    def abort(self) -> None:
        """Wake everyone, on both sides of the GPU, and free its memory. May hang."""
        ...


class Communicators(Protocol):
    """Opens communicators. Any thread."""

    def open(self, rendezvous: Rendezvous) -> Communicator:
        """Connect to the other rank. PairError; may hang if that one freezes amid it."""
        ...


class NcclCommunicators:
    """On one CUDA device, of a torch that has NCCL."""

    def __init__(self, stream: CopyStream, limits: NcclLimits) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._stream = stream
        self._limits = limits

    def open(self, rendezvous: Rendezvous) -> Communicator:
        """See Communicators."""
        try:
            _meet(rendezvous)
            return NcclCommunicator(rendezvous, self._stream, self._limits.ctas_max)
        except (RuntimeError, OSError) as error:
            raise PairError(f"cannot open: {first_line(error)}") from error


class NcclCommunicator:
    """A process group of two and the communicator in it."""

    def __init__(self, rendezvous: Rendezvous, stream: CopyStream, ctas_max: int) -> None:
        # Neither is in torch's CPU build.
        from torch.distributed import ProcessGroup, ProcessGroupNCCL

        options = ProcessGroupNCCL.Options()
        options._timeout = timedelta(seconds=rendezvous.timeout_s)  # noqa: SLF001
        options.config.min_ctas = 1
        options.config.max_ctas = ctas_max
        store, rank, device = rendezvous.store.torch_store, rendezvous.rank, stream.device
        backend: Any = ProcessGroupNCCL(store, rank, 2, options)
        # Only the wrapper can start and end a group of operations with one Work.
        group: Any = ProcessGroup(store, rank, 2)
        group._set_default_backend(ProcessGroup.BackendType.NCCL)  # noqa: SLF001
        group._register_backend(device, ProcessGroup.BackendType.NCCL, backend)  # noqa: SLF001
        self._backend: Any = backend
        self._group: Any = group
        self._stream = stream
        self._peer = 1 - rank
        with torch.cuda.device(device):
            backend.eager_connect_single_device(device)

    def launch(self, verb: Verb, chunks: Sequence[Tensor], tags: Sequence[int]) -> Launched:
        """See Communicator. NCCL has no tags: the order of the chunks is what matches them.

        Always as a group, also of one: outside of one, torch may open a second
        communicator for the same two ranks.
        """
        group = self._group
        if group is None:
            raise RuntimeError("communicator was aborted")
        self._stream.enter()
        device = self._stream.device
        with torch.cuda.device(device):
            group._start_coalescing(device)  # noqa: SLF001
            for chunk, tag in zip(chunks, tags, strict=True):
                getattr(group, verb)([chunk], self._peer, tag)
            launched: Launched = group._end_coalescing(device)  # noqa: SLF001
        return launched

    def abort(self) -> None:
        """See Communicator. The groups go here too, as their destructors may wait."""
        backend, self._backend, self._group = self._backend, None, None
        if backend is not None:
            backend.abort()


def require_nccl() -> None:
    """Raises RuntimeError if torch was built without."""
    if not torch.distributed.is_nccl_available():
        raise RuntimeError("this torch has no NCCL")


def _meet(rendezvous: Rendezvous) -> None:
    """Both ranks say that they are there, and only then connect: NCCL's own
    connecting has no timeout.
    """
    store = rendezvous.store.torch_store
    store.set(f"here/{rendezvous.rank}", "yes")
    store.wait([f"here/{1 - rendezvous.rank}"], timedelta(seconds=rendezvous.timeout_s))
