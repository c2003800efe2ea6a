"""Shells of the data plane: the Ray actor, the engine loop, the KV transport."""
