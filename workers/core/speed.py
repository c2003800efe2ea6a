"""A worker measures its own speed: iteration_ns + tokens x token_ns.

Least squares with exponential forgetting over (tokens, duration) of its
iterations. Batches of one size say nothing about the slope, so the slope is
drawn a little towards its last value (ridge); the intercept follows the mean.
Host copies run one after the other: each took the time since it was ordered, or
since the one before it ended.
"""

from ...proto.ids import HostCopyId
from ...proto.views import Speed

FORGET = 0.98  # weight of the past per iteration: about the last 50 count
RIDGE = 1.0  # tokens squared; small beside the spread of prefill and decode batches
HOST_WEIGHT = 0.2  # of the newest host copy


class SpeedMeter:
    """Starts from what the worker says of itself at registration."""

    def __init__(self, start: Speed) -> None:
        self.host = HostMeter(start.restore_block_ns)
        self._iteration_ns = start.iteration_ns
        self._token_ns = start.token_ns
        self._weight = 0.0
        self._tokens = 0.0
        self._ns = 0.0
        self._tokens_tokens = 0.0
        self._tokens_ns = 0.0

    @property
    def speed(self) -> Speed:
        return Speed(
            iteration_ns=self._iteration_ns,
            token_ns=self._token_ns,
            restore_block_ns=self.host.block_ns,
        )

    def observe(self, tokens: int, duration_ns: int) -> None:
        """One iteration of `tokens` tokens took `duration_ns`."""
        self._weight = self._weight * FORGET + 1.0
        self._tokens = self._tokens * FORGET + tokens
        self._ns = self._ns * FORGET + duration_ns
        self._tokens_tokens = self._tokens_tokens * FORGET + tokens * tokens
        self._tokens_ns = self._tokens_ns * FORGET + tokens * duration_ns
        self._fit()

    def _fit(self) -> None:
        mean_tokens = self._tokens / self._weight
        mean_ns = self._ns / self._weight
        variance = max(0.0, self._tokens_tokens / self._weight - mean_tokens**2)
        covariance = self._tokens_ns / self._weight - mean_tokens * mean_ns
        slope = (covariance + RIDGE * self._token_ns) / (variance + RIDGE)
        slope = min(max(0.0, slope), mean_ns / mean_tokens)
        self._iteration_ns, self._token_ns = mean_ns - slope * mean_tokens, slope


class HostMeter:
    """Nanoseconds per block between device and host memory, either way."""

    def __init__(self, block_ns: float) -> None:
        self.block_ns = block_ns
        self._under_way: dict[HostCopyId, tuple[int, int]] = {}  # to (blocks, ordered_ns)
        self._last_end_ns = 0

    def predict_ns(self, blocks: int) -> float:
        """Until so many blocks have been copied."""
        return blocks * self.block_ns

    def began(self, copy_id: HostCopyId, blocks: int, now_ns: int) -> None:
        """A copy was ordered."""
        self._under_way[copy_id] = (blocks, now_ns)

    @property
    def under_way(self) -> int:
        """Blocks of all copies that have not ended."""
        return sum(blocks for blocks, _ in self._under_way.values())

    def ended(self, copy_id: HostCopyId, now_ns: int | None) -> None:
        """It is done, or (None) came to nothing; one that is not known teaches nothing."""
        blocks, ordered_ns = self._under_way.pop(copy_id, (0, 0))
        if blocks and now_ns is not None:
            measured_ns = (now_ns - max(ordered_ns, self._last_end_ns)) / blocks
            self._last_end_ns = now_ns
            self.block_ns += HOST_WEIGHT * (measured_ns - self.block_ns)
