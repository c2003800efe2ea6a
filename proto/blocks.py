"""Prefix hashes: a block's hash chained with its parent's, salted by tenant."""

from array import array
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from .ids import PrefixHash


def chain(parent: PrefixHash, token_ids: Sequence[int]) -> PrefixHash:
    """The hash of one full block whose predecessor's hash is `parent`."""
    return PrefixHash(xxh3_64_intdigest(array("q", token_ids).tobytes(), seed=parent))


def root(salt: str = "") -> PrefixHash:
    """The parent of the first block; tenants with different salts share nothing."""
    return PrefixHash(xxh3_64_intdigest(salt.encode()))


def block_hashes(
    token_ids: Sequence[int], block_tokens: int, salt: str = ""
) -> tuple[PrefixHash, ...]:
    """One hash per full block of `token_ids`; the tail that fills no block has none."""
    hashes: list[PrefixHash] = []
    parent = root(salt)
    for start in range(0, len(token_ids) - block_tokens + 1, block_tokens):
        parent = chain(parent, token_ids[start : start + block_tokens])
        hashes.append(parent)
    return tuple(hashes)
