"""A worker measures its own speed: iteration_ns + tokens x token_ns.

Least squares with exponential forgetting over (tokens, duration) of its
iterations. Batches of one size say nothing about the slope, so the slope is
drawn a little towards its last value (ridge); the intercept follows the mean.
"""

from ...proto.views import Speed

FORGET = 0.98  # weight of the past per iteration: about the last 50 count
RIDGE = 1.0  # tokens squared; small beside the spread of prefill and decode batches


class SpeedMeter:
    """Starts from what the worker says of itself at registration."""

    def __init__(self, start: Speed) -> None:
        self._speed = start
        self._weight = 0.0
        self._tokens = 0.0
        self._ns = 0.0
        self._tokens_tokens = 0.0
        self._tokens_ns = 0.0

    @property
    def speed(self) -> Speed:
        return self._speed

    def observe(self, tokens: int, duration_ns: int) -> None:
        """One iteration of `tokens` tokens took `duration_ns`."""
        self._weight = self._weight * FORGET + 1.0
        self._tokens = self._tokens * FORGET + tokens
        self._ns = self._ns * FORGET + duration_ns
        self._tokens_tokens = self._tokens_tokens * FORGET + tokens * tokens
        self._tokens_ns = self._tokens_ns * FORGET + tokens * duration_ns
        self._speed = self._fit()

    def _fit(self) -> Speed:
        mean_tokens = self._tokens / self._weight
        mean_ns = self._ns / self._weight
        variance = max(0.0, self._tokens_tokens / self._weight - mean_tokens**2)
        covariance = self._tokens_ns / self._weight - mean_tokens * mean_ns
        slope = (covariance + RIDGE * self._speed.token_ns) / (variance + RIDGE)
        slope = min(max(0.0, slope), mean_ns / mean_tokens)
        return Speed(iteration_ns=mean_ns - slope * mean_tokens, token_ns=slope)
