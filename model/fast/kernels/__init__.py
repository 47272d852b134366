"""Triton kernels of the captured step."""
