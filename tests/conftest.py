"""What holds for all tests: a slow machine is no failure."""

import os
import signal

from hypothesis import HealthCheck, settings

# Before anything imports gRPC: its handlers run in every child that Ray forks, and crash there
# now and then if other threads are calling.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Shells ignore it in what they start in the background, and so would all that tests start:
# those that press Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as the test itself: `timeout` in pyproject.toml bounds that.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
