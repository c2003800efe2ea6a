"""The control plane's decisions: pure state machines, `step(event, now_ns) -> effects`."""
