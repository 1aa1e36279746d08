"""Measures Unroll beside what people would use instead: `python -m benchmarks.serving --help`."""
