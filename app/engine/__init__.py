"""Continuous batching: sequences in, chunks of time steps computed together, results out."""
