"""What holds for all tests: a slow machine is no failure."""

from hypothesis import HealthCheck, settings

# An example may take as long as the test itself: `timeout` in pyproject.toml bounds that.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
