"""Every bound of the transport, by name."""

from dataclasses import dataclass, fields

from .framing import ALIGN_BYTES

MIB = 1 << 20
# What a receiver takes from anyone, whatever its own limits are.
CHUNK_BYTES_MAX = 4 * MIB
GROUP_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Bounds of one worker's transport.

    open_timeout_s      each step of building a pair (store, rendezvous, connect)
    copy_timeout_s      a pair on which no message gets through for so long is given up;
                        so is one of whose sequence a header is missing for so long
    idle_timeout_s      a sender closes an unused pair then, a receiver at twice that,
                        so that the side that notices is the one that can pair anew
    close_timeout_s     `close` waits so long for all threads together
    chunk_bytes         one message, a multiple of 16; small enough for a cache and for
                        several to overlap; a page more than a round number, so that
                        markers do not ask for a message of their own
    in_flight_max       messages posted at once per pair: a pair takes in_flight_max *
                        chunk_bytes of memory on each side, allocated once
    group_max           small copies announced by one header; together at most chunk_bytes
    ahead_max           parcels announced before their bytes are posted, so that a
                        receiver is ready when they come
    copy_bytes_max      one copy's payload
    queue_len_max       copies that wait per pair
    pairs_max           pairs per direction; idle ones are closed, least recently used first
    sources_max         sources whose newest pairing is remembered
    """

    open_timeout_s: float = 5.0
    copy_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    close_timeout_s: float = 20.0
    chunk_bytes: int = MIB + 4096
    in_flight_max: int = 8
    group_max: int = 64
    ahead_max: int = 8
    copy_bytes_max: int = 1024 * MIB
    queue_len_max: int = 256
    pairs_max: int = 64
    sources_max: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} ({value}) must be above 0")
        if self.chunk_bytes > CHUNK_BYTES_MAX or self.chunk_bytes % ALIGN_BYTES:
            raise ValueError(
                f"chunk_bytes ({self.chunk_bytes}) is not a multiple of {ALIGN_BYTES} "
                f"up to {CHUNK_BYTES_MAX}"
            )
        if self.group_max > GROUP_MAX:
            raise ValueError(f"group_max ({self.group_max}) exceeds {GROUP_MAX}")
