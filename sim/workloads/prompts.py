"""Turns arrivals into requests: the tokens that segments stand for, and their hashes."""

from array import array
from itertools import chain
from random import Random

from xxhash import xxh3_64_intdigest

from ...proto.blocks import root
from ...proto.ids import GatewayId, PrefixHash, RequestId
from ...proto.requests import Request, SamplingParams
from ..streams import VOCAB
from .arrivals import Arrival, Segment

SHARED_SEGMENTS_MAX = 20_000  # kept made; beyond, all are made again when needed
# From 16 random bits to a token id: one int object per id, whatever the trace's length.
TOKEN_IDS = list(range(VOCAB)) * ((1 << 16) // VOCAB)


class PromptMaker:
    """Turns arrivals into requests."""

    def __init__(self, seed: int, block_tokens: int, stop_token_ids: frozenset[int]) -> None:
        self._seed = seed
        self._block_tokens = block_tokens
        self._stop_token_ids = stop_token_ids
        self._shared: dict[Segment, tuple[int, ...]] = {}

    def request(self, index: int, arrival: Arrival, gateway_id: GatewayId) -> Request:
        """The request of arrival number `index`; a session's later turns keep its number.

        Every turn of a session draws by a seed of its own.
        """
        made = chain.from_iterable(map(self._tokens, arrival.segments))
        token_ids = arrival.history + tuple(made)
        request_id = request_id_of(index, arrival)
        seed = f"{self._seed}/{request_id[1:]}"
        return Request(
            request_id=request_id,
            gateway_id=gateway_id,
            token_ids=token_ids,
            max_tokens=arrival.output_tokens,
            sampling=SamplingParams(seed=xxh3_64_intdigest(seed.encode()) >> 16),
            stop_token_ids=self._stop_token_ids,
            block_hashes=quick_block_hashes(token_ids, self._block_tokens),
        )

    def _tokens(self, segment: Segment) -> tuple[int, ...]:
        if segment.name.startswith("own/"):
            return self._make(segment)
        tokens = self._shared.get(segment)
        if tokens is None:
            if len(self._shared) >= SHARED_SEGMENTS_MAX:
                self._shared.clear()
            tokens = self._shared[segment] = self._make(segment)
        return tokens

    def _make(self, segment: Segment) -> tuple[int, ...]:
        # 16-bit words of a seeded byte string: a long prompt costs microseconds.
        data = Random(f"{self._seed}/{segment.name}").randbytes(2 * segment.tokens)
        return tuple(map(TOKEN_IDS.__getitem__, memoryview(data).cast("H")))


def request_id_of(index: int, arrival: Arrival) -> RequestId:
    """`r7` for arrival number 7, `r7.2` for the second later turn of its session."""
    return RequestId(f"r{index}.{arrival.turn}" if arrival.turn else f"r{index}")


def quick_block_hashes(token_ids: tuple[int, ...], block_tokens: int) -> tuple[PrefixHash, ...]:
    """`proto.blocks.block_hashes` without a tenant, over one buffer."""
    view = memoryview(array("q", token_ids)).cast("B")
    size = 8 * block_tokens
    parent = root()
    hashes: list[PrefixHash] = []
    for start in range(0, len(view) - size + 1, size):
        parent = PrefixHash(xxh3_64_intdigest(view[start : start + size], seed=parent))
        hashes.append(parent)
    return tuple(hashes)
