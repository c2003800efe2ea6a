"""Shells of the control plane: Ray actors, gRPC, real time."""
