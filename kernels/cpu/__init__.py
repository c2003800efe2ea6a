"""Exact float32 kernels for CPUs, compiled by numba from hand-written LLVM.

The promise: the bits of an output row are a function of that row's inputs. Not
of the rows beside it, their number, its place among them, the threads, the
chunking of a prompt, or where its KV blocks lie.

numba caches the compiled code beside the sources (or in the user's cache folder
when that is read-only) and watches only the file of the function itself: after
editing `emit`, `tile`, `vector_math`, `softmax`, `row_steps` or `threads`, remove
`__pycache__/*.nb*`.
"""
