"""One tensor-parallel rank's part in the copies of its group.

A rank holds some heads of every block; a part carries the heads that its
target wants of them. Whether the whole copy has landed is for the group's
`LandingParts` to say: a rank alone publishes nothing.
"""

from collections.abc import Sequence

from ...proto.effects import CloseLease, OpenLease
from ...proto.move import Copy
from ..core.head_ranges import Exchange, HeadRange
from .block_rows import BlockBytes
from .copier import Copier
from .kv_cache import KvCache
from .transport import Endpoint, ParcelHeader


class HeadBlocks:
    """Some heads of a cache's blocks, counted from the first that is held there."""

    def __init__(self, cache: KvCache, heads: HeadRange) -> None:
        self._cache = cache
        self._heads = heads

    def block_rows(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> BlockBytes:
        """Bytes [last - first, 2, len(blocks), heads, block_tokens, D]."""
        return self._cache.rows_of_heads(first_layer, last_layer, blocks, self._heads)


class RankCopier:
    """Sends and lands the parts of one rank, which holds `held` of the model's heads."""

    def __init__(self, copier: Copier, cache: KvCache, held: HeadRange) -> None:
        self._copier = copier
        self._cache = cache
        self._held = held

    def start(self, part: Copy, exchange: Exchange, target: Endpoint) -> None:
        """Send a part to its target rank; ends in CopySent or CopyFailed, of the part."""
        self._copier.start(part, target, self._blocks(exchange))

    def land(self, header: ParcelHeader, parts: Sequence[Copy], exchange: Exchange) -> None:
        """Receive parts of one rank, hence of one exchange; each ends in BlocksLanded or
        CopyFailed, of the part.
        """
        self._copier.land(header, parts, self._blocks(exchange))

    def open_lease(self, order: OpenLease) -> None:
        """See Copier."""
        self._copier.open_lease(order)

    def close_lease(self, order: CloseLease) -> None:
        """See Copier. The group's lease is closed when every rank's is."""
        self._copier.close_lease(order)

    def _blocks(self, exchange: Exchange) -> HeadBlocks:
        return HeadBlocks(self._cache, exchange.heads.within(self._held))
