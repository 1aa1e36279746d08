"""A small training as a command: its task, its options, and the weights that it exports."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tests.model.tables import make_table, write_table

# As small as shows everything: a few windows, each dropout, noise, two orders of the windows.
OPTIONS = {
    "layers": ["gru:4"],
    "input_keep_prob": ["0.9"],
    "output_keep_prob": ["0.8"],
    "state_keep_prob": ["0.9"],
    "input_noise": ["0.01"],
    "window_steps": ["8"],
    "batch_size": ["16"],
    "updates": ["40"],
    "patience": ["100"],
}

TASK = """
name = "toy"
description = "A toy."
source = "Made up."
data = "{data}"
time = "time"
time_step_s = 3600
series = "place"
season_steps = 4
[[features]]
name = "temp"
unit = "degC"
[[features]]
name = "wind"
unit = "m/s"
missing = true
[[outputs]]
name = "temp_1"
unit = "degC"
column = "temp"
horizon = 1
change = true
[[outputs]]
name = "temp_5"
unit = "degC"
column = "temp"
horizon = 5
change = true
"""


def write_task(folder: Path) -> Path:
    """A daily wave with noise at two places, 300 hours, with a gap in one of them."""
    table = make_table({"a": range(300), "b": [*range(100), *range(110, 300)]})
    random = np.random.default_rng(0)
    hour = np.arange(len(table))
    table["temp"] = 10 * np.sin(hour * np.pi / 2 + 0.3) + random.normal(0.0, 1.0, len(table))
    path = folder / "toy.toml"
    path.write_text(TASK.format(data=write_table(table, folder / "toy.csv")))
    return path


def arguments(task: Path, models_dir: Path, **options: Iterable[object]) -> list[str]:
    """The command line of a training with these options, by their names."""
    given: dict[str, Iterable[object]] = {
        "task": [task], "models_dir": [models_dir], **OPTIONS, **options,
    }  # fmt: skip
    return [
        str(word)
        for name, values in given.items()
        for word in (f"--{name.replace('_', '-')}", *values)
    ]


def weights(folder: Path) -> dict[str, bytes]:
    """Of an exported version, as bytes, by name."""
    # Here, since a conftest imports this file, and most tests need no TensorFlow.
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
    return {name: reader.get_tensor(name).tobytes() for name in names}
