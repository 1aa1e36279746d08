"""The kernels alone, without a server: `python -m benchmarks.kernels`."""
