"""Where the two ranks of a pair find each other: a TCPStore in the receiver's process."""

import contextlib
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from .backend import TARGET_RANK, Rendezvous


class HostedStore:
    """The receiver's own: served on a free `port` for as long as the object lives."""

    def __init__(self, timeout_s: float) -> None:
        self._store = TCPStore(
            "localhost",
            0,
            is_master=True,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,  # there is no fixed number of them
        )
        self.port: int = self._store.port

    def keys_held(self) -> int:
        """How many keys it holds: two or three per open pair, and one of its own."""
        return self._store.num_keys()


class PairStore:
    """One pair's keys in the receiver's store. Raises RuntimeError if it is out of reach."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        # A client of its own per pair, on the receiver too: a TCPStore serves one
        # caller at a time, so one absent peer would hold up every other pairing.
        self._store = TCPStore(
            rendezvous.host,
            rendezvous.port,
            is_master=False,
            timeout=timedelta(seconds=rendezvous.timeout_s),
        )
        self._rendezvous = rendezvous
        self.prefixed = PrefixStore(rendezvous.prefix, self._store)

    def forget(self) -> None:
        """On the target: delete the pair's keys, or the store grows with every pairing.

        Only once the pair is done with: a rank that is connected cannot tell
        whether the other has read its keys yet.
        """
        if self._rendezvous.rank != TARGET_RANK:
            return
        with contextlib.suppress(RuntimeError):
            for key in self._store.list_keys():
                if key.startswith(self._rendezvous.prefix):
                    self._store.delete_key(key)


def first_line(error: Exception) -> str:
    """Of a message that may drag a C++ stack along, what a person reads."""
    return str(error).split("\n", 1)[0]
