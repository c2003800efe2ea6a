"""Which backend moves a pair's bytes: memory that both workers share, or the network.

Memory if both have the same `host_id`. A target with which memory failed to
open is paired with over the network from then on: its next pair works.
"""

from collections import OrderedDict

from ....proto.ids import WorkerKey
from .backend import PairBackend
from .gloo import GlooBackend
from .header import Endpoint, Way
from .memory import MemoryBackend, host_id

REFUSED_MAX = 1024


class Ways:
    """One worker's backends. Guarded by the transport's lock, but for `give_up_memory`."""

    def __init__(self, network: PairBackend, memory: PairBackend | None, host_id: str) -> None:
        """`memory` is None, and `host_id` empty, where workers are not to share memory."""
        assert (memory is None) == (not host_id), host_id
        self._backends = {Way.NETWORK: network}
        if memory is not None:
            self._backends[Way.MEMORY] = memory
        self.host_id = host_id
        self._refused: OrderedDict[WorkerKey, None] = OrderedDict()

    def to(self, target: Endpoint) -> Way:
        """The way to a target."""
        near = self.host_id and self.host_id == target.host_id
        return Way.MEMORY if near and target.worker not in self._refused else Way.NETWORK

    def backend(self, way: Way) -> PairBackend | None:
        """None for a way that this worker does not have."""
        return self._backends.get(way)

    def give_up_memory(self, target: WorkerKey) -> None:
        """It could not be opened. Any thread; the newest `REFUSED_MAX` are remembered."""
        self._refused[target] = None
        while len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)


def cpu_ways(host: str) -> Ways:
    """Gloo, and memory between the workers of one machine where it can be shared."""
    here = host_id()
    return Ways(GlooBackend(host), MemoryBackend() if here else None, here)


def network_ways(host: str) -> Ways:
    """Gloo, also on one machine. `host`: the own address that peers can reach."""
    return Ways(GlooBackend(host), None, "")
