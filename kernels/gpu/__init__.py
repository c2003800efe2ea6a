"""Triton kernels for CUDA devices; each has its plain-torch reference in the folder above."""
