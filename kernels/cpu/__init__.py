"""Exact float32 kernels for CPUs, compiled by numba from hand-written LLVM.

The promise: the bits of an output row are a function of that row's inputs. Not
of the rows beside it, their number, its place among them, the threads, the
chunking of a prompt, or where its KV blocks lie.
"""
