"""Convolution, pooling and sums over pixels in the form that each backend computes fastest.

XLA:CPU is many times slower than it could be on these operations (benchmarks/README.md), so they have another form on
CPU. The plain twin of each CPU form is XLA's own form, which accelerators use; tests/networks/test_kernels.py compares
the two. A CPU form can be deleted when XLA:CPU computes its plain twin as fast.
"""
