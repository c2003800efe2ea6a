"""Measures what iterations take on this machine, for the simulator."""
