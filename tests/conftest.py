"""What holds for all tests: a slow machine is no failure."""

import os

from hypothesis import HealthCheck, settings

# Before anything imports gRPC: its handlers run in every child that Ray forks, and crash there
# now and then if other threads are calling.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# An example may take as long as the test itself: `timeout` in pyproject.toml bounds that.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
