"""Recorded and published truths that the simulator is held against (benchmarks/fidelity.py)."""
