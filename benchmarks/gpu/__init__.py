"""The benchmark on a GPU: `python -m benchmarks.gpu` measures it, each section in a process."""
