"""The requests a worker holds, each in exactly one place, and their blocks.

    waiting --admit--> running --finish--> finished --remove--> gone
    running --preempt--> waiting, first in the queue
    running or waiting --stop--> running, phase HANDOVER --resume--> as before

Every change of a sequence's phase happens here. A sequence that is removed
while an iteration computes it keeps its blocks until `landed`.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ...proto.ids import BlockId, RequestId
from ...proto.requests import SampledToken
from ...proto.views import Phase
from .blocks import BlockPool
from .host_pool import HostPool
from .limits import WorkerLimits
from .sequence import Sequence


class Holdings:
    """All sequences by id, and by where they stand."""

    def __init__(self, limits: WorkerLimits, blocks: BlockPool, host_blocks: HostPool) -> None:
        self.blocks = blocks
        self.host_blocks = host_blocks
        self.held: dict[RequestId, Sequence] = {}
        self.waiting: OrderedDict[RequestId, Sequence] = OrderedDict()
        self.running: dict[RequestId, Sequence] = {}  # in order of admission
        self.finished: dict[RequestId, Sequence] = {}  # in order of finishing
        self.leases = 0  # slots promised to open leases
        self._sequences_max = limits.sequences_max
        self.preemptions = 0
        self._arrivals = 0

    @property
    def slots_free(self) -> int:
        """How many more sequences may own blocks; negative after a burst of resumes."""
        return self._sequences_max - len(self.running) - self.leases

    def enqueue(self, sequence: Sequence) -> None:
        """A new sequence waits, last in the queue."""
        self._add(sequence)
        self.waiting[sequence.request.request_id] = sequence

    def adopt(self, sequence: Sequence, blocks: tuple[BlockId, ...], computed: int) -> None:
        """A sequence whose move has committed here runs on, with the lease's blocks."""
        self._add(sequence)
        sequence.blocks = blocks
        sequence.computed = computed
        self._run(sequence)
        self.publish(sequence, 0)

    def admit(self, sequence: Sequence, hits: tuple[BlockId, ...]) -> None:
        """From waiting to running: blocks for all known tokens, the first ones from the cache."""
        self.blocks.hold(hits)
        fresh = self.blocks.allocate(sequence.blocks_for(sequence.known) - len(hits))
        sequence.blocks = hits + fresh
        sequence.computed = len(hits) * sequence.block_tokens
        sequence.restored = False
        if sequence.cached_tokens is None:
            sequence.cached_tokens = min(sequence.computed, sequence.request.prompt_tokens)
            sequence.host_tokens = min(sequence.host_tokens, sequence.cached_tokens)
            own = sequence.cached_tokens - sequence.host_tokens
            sequence.peer_tokens = min(sequence.peer_tokens, own)
        del self.waiting[sequence.request.request_id]
        self._run(sequence)

    def grow(self, sequence: Sequence, count: int) -> None:
        """`count` more blocks at the end of the table."""
        sequence.blocks += self.blocks.allocate(count)

    def preempt(self, sequence: Sequence) -> None:
        """Gives its blocks up and waits, first in the queue; its tokens stay."""
        assert not sequence.in_flight, f"{sequence.request.request_id} preempted in flight"
        self.preemptions += 1
        del self.running[sequence.request.request_id]
        self._release(sequence)
        self._wait_first(sequence)

    def stop(self, sequence: Sequence) -> None:
        """No further iteration: its move hands it over."""
        assert not sequence.in_flight, f"{sequence.request.request_id} stopped in flight"
        self.waiting.pop(sequence.request.request_id, None)
        self.running[sequence.request.request_id] = sequence
        sequence.phase = Phase.HANDOVER

    def resume(self, sequence: Sequence) -> None:
        """Its handover is off: it runs (or waits) as before."""
        assert sequence.phase is Phase.HANDOVER, f"resumed from {sequence.phase}"
        if sequence.blocks:
            self._run(sequence)
        else:
            del self.running[sequence.request.request_id]
            self._wait_first(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Its last token is known; it owns nothing and waits for the gateway's ack."""
        assert not sequence.in_flight, f"{sequence.request.request_id} finished in flight"
        request_id = sequence.request.request_id
        self.held[request_id] = sequence
        self.waiting.pop(request_id, None)
        self.running.pop(request_id, None)
        self._release(sequence)
        sequence.phase = Phase.FINISHED
        self.finished[request_id] = sequence

    def remove(self, sequence: Sequence) -> None:
        """Forgets it. Blocks under an iteration in flight are freed by `landed`."""
        request_id = sequence.request.request_id
        del self.held[request_id]
        self.waiting.pop(request_id, None)
        self.running.pop(request_id, None)
        self.finished.pop(request_id, None)
        sequence.gone = True
        if not sequence.in_flight:
            self._release(sequence)

    def landed(self, sequence: Sequence, computed: int) -> None:
        """An iteration has computed it up to `computed`."""
        sequence.in_flight = False
        if sequence.gone:
            self._release(sequence)
            return
        before, sequence.computed = sequence.computed, computed
        self.publish(sequence, before // sequence.block_tokens)

    def drew(self, sequence: Sequence, token: SampledToken) -> None:
        """All known tokens were computed, and the next one is known now."""
        sequence.append(token)
        sequence.phase = Phase.DECODE

    def publish(self, sequence: Sequence, first_block: int) -> None:
        """Makes the full computed blocks from `first_block` on findable."""
        last = sequence.computed // sequence.block_tokens
        if first_block < last:
            full = slice(first_block, last)
            self.blocks.publish_all(sequence.blocks[full], sequence.hashes[full])

    def all_blocks(self) -> Iterator[BlockId]:
        """Each block once per sequence that holds it; those in flight and gone excluded."""
        for sequence in self.held.values():
            yield from sequence.blocks

    def check(self) -> None:
        """Integrity: one place each, phases that fit it, tables that cover what is computed."""
        places = [*self.waiting.items(), *self.running.items(), *self.finished.items()]
        assert len(places) == len(self.held), "a request is in two places, or in none"
        for request_id, sequence in places:
            assert self.held.get(request_id) is sequence, f"{request_id} is held twice"
            assert not sequence.gone, f"{request_id} is gone and held"
            assert sequence.known == len(sequence.request.token_ids) + len(sequence.outputs)
            assert 0 <= sequence.computed <= sequence.known
            assert sequence.blocks_for(sequence.computed) <= len(sequence.blocks) or (
                sequence.phase is Phase.FINISHED
            ), f"{request_id}: table too short"
            assert len(sequence.hashes) == sequence.known // sequence.block_tokens
        for sequence in self.waiting.values():
            assert sequence.phase is Phase.WAITING, f"{sequence.phase} in waiting"
            assert not sequence.blocks, "a waiting request has blocks"
            assert not sequence.in_flight, "a waiting request is in flight"
        for sequence in self.running.values():
            assert sequence.phase in (Phase.PREFILL, Phase.DECODE, Phase.HANDOVER)
            assert sequence.remaining >= 1, "a running request has nothing to compute"
            assert sequence.phase is not Phase.DECODE or sequence.remaining == 1
        for sequence in self.finished.values():
            assert sequence.phase is Phase.FINISHED, f"{sequence.phase} in finished"
            assert not sequence.blocks, "a finished request has blocks"

    def _add(self, sequence: Sequence) -> None:
        request_id = sequence.request.request_id
        assert request_id not in self.held, f"{request_id} is held already"
        self._arrivals += 1
        sequence.order = (sequence.request.arrived_ns, self._arrivals)
        self.held[request_id] = sequence

    def _run(self, sequence: Sequence) -> None:
        decodes = sequence.remaining == 1 and bool(sequence.outputs)
        sequence.phase = Phase.DECODE if decodes else Phase.PREFILL
        self.running[sequence.request.request_id] = sequence

    def _wait_first(self, sequence: Sequence) -> None:
        sequence.phase = Phase.WAITING
        self.waiting[sequence.request.request_id] = sequence
        self.waiting.move_to_end(sequence.request.request_id, last=False)

    def _release(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        sequence.blocks = ()
        sequence.computed = 0
