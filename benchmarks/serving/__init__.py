"""Unroll beside its peers: `python -m benchmarks.serving` measures, and writes the page."""
