"""Splits of one series, and a model for them that is not trained."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from model.data.dataset import Split, fit_features, fit_outputs, load
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from model.tasks.task import TaskConfig
from tests.model.tables import (
    make_table,
    make_task,
    write_table,
)

LINEAR = "linear autoregression"
METHODS = ["model", "persistence", "same time last season", LINEAR]
# Of the same column, 1 and 5 hours ahead; a day has 4 hours.
OUTPUTS = [
    {"name": f"temp_{h}", "unit": "degC", "column": "temp", "horizon": h, "change": True}
    for h in (1, 5)
]


def make_splits(folder: Path, temp: np.ndarray) -> tuple[TaskConfig, dict[str, Split]]:
    """Splits of one series of temperatures, hour after hour."""
    table = make_table({"a": range(len(temp))})
    table["temp"] = temp
    task = make_task(write_table(table, folder / "table.parquet"), outputs=OUTPUTS)
    return task, load(task)


def make_model(task: TaskConfig, splits: dict[str, Split]) -> SequenceModel:
    """Not trained: only its weights at the start."""
    tf.keras.utils.set_random_seed(0)
    features, outputs = fit_features(task, splits["train"]), fit_outputs(task, splits["train"])
    config = RNNConfig(
        layers=(LayerConfig.parse("gru:3"),),
        num_inputs=sum(feature.num_inputs for feature in features),
        num_outputs=len(outputs),
    )
    return SequenceModel(config, features, outputs)
