"""Inputs on which kernels are compared: time steps of the manifest's example, of random lengths."""

import numpy as np

from app.manifest import Manifest

SEED = 20131225


def probe(manifest: Manifest, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, float32 `[rows, steps, F]`, and lengths, int32 `[rows]`; always the same.

    Time steps are picked from the example, zeros if there is none.
    """
    random = np.random.default_rng(SEED)
    example = np.array(manifest.example or [[0.0] * len(manifest.features)])
    picked = example[random.integers(len(example), size=(rows, steps))].astype(np.float32)
    lengths = random.integers(1, steps + 1, rows).astype(np.int32)
    lengths[0] = steps
    return picked, lengths


def probe_state(rows: int, size: int) -> np.ndarray:
    """States, float32 `[rows, size]`, such as cells have; always the same."""
    random = np.random.default_rng(SEED)
    return random.uniform(-0.5, 0.5, (rows, size)).astype(np.float32)
