"""Every bound of the transport, by name."""

from dataclasses import dataclass, fields

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Bounds of one worker's transport.

    open_timeout_s      each step of building a pair (store, rendezvous, connect)
    copy_timeout_s      one copy, from its header to its last byte; also how long a
                        receiver waits for a header that is missing from the sequence
    idle_timeout_s      a sender closes an unused pair then, a receiver at twice that,
                        so that the side that notices is the one that can pair anew
    close_timeout_s     `close` waits so long for all threads together
    chunk_bytes         one message; small enough for several to overlap
    in_flight_max       messages posted at once per pair (gloo: 1 MiB serial 0.27 GB/s,
                        eight deep 3.1 GB/s)
    copy_bytes_max      one copy's payload, hence a receiver's allocation
    queue_len_max       copies that wait per pair
    pairs_max           pairs per direction; idle ones are closed, least recently used first
    sources_max         sources whose newest pairing is remembered
    """

    open_timeout_s: float = 5.0
    copy_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    close_timeout_s: float = 20.0
    chunk_bytes: int = 1 * MIB
    in_flight_max: int = 8
    copy_bytes_max: int = 1024 * MIB
    queue_len_max: int = 256
    pairs_max: int = 64
    sources_max: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} ({value}) must be above 0")
        if self.chunk_bytes > 4 * MIB:
            raise ValueError(f"chunk_bytes ({self.chunk_bytes}) exceeds {4 * MIB}")
