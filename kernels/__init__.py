"""The arithmetic of a decoder layer: one seam, a reference, exact CPU kernels.

`select.select(device)` gives the implementation for a device. Nothing here is
imported eagerly: numba's compiler costs a second that a simulator never needs.
"""
