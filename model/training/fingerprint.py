"""What tells whether a training goes on with the data that it began with."""

import hashlib

import numpy as np

from model.data.dataset import Split
from model.network.sequence_model import SequenceModel


def fingerprint(model: SequenceModel, splits: dict[str, Split]) -> str:
    """SHA-256 of all that a training computes with, but its weights and options.

    Args:
        model: whose transforms and layers count.
        splits: of which training and validation count.
    """
    digest = hashlib.sha256(model.config.model_dump_json().encode())
    for described in (*model.features, *model.outputs_spec):
        digest.update(described.model_dump_json().encode())
    for name in ("train", "validation"):
        split = splits[name]
        for array in (split.features, split.targets, split.run_starts):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
