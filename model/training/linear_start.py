"""`--linear-start`: a layer of relu units that begins as the linear autoregression.

Its units are a shift register: at each time step a unit takes over what its neighbour held. As relu
passes no negative number, each input has two units, for its positive and its negative part; so a
sequence begins, with zeros, as if all before had been the mean. The head has the weights of a
linear autoregression. What moves on evenly, as the hour of day, or is the same for a series is kept
of the newest time step alone: older ones would tell the same. (Recurrent layers of relu units that
begin near the identity: Le, Jaitly and Hinton 2015, arXiv:1504.00941.)
"""

from dataclasses import replace

import numpy as np

from model.data.dataset import Split
from model.evaluation.linear_autoregression import LinearAutoregression
from model.network.sequence_model import SequenceModel
from model.tasks.task import Calendar, TaskConfig
from model.transforms import Change, Feature

# Of a spread: what float32 can tell.
LEAST_ERROR = 1e-6
# The day of the week stands still and then jumps: a past of it tells how long ago that was.
EVEN: tuple[Calendar, ...] = ("hour_of_day", "day_of_year")


def lagged_inputs(task: TaskConfig, features: tuple[Feature, ...]) -> np.ndarray:
    """Which of the network's inputs are kept of all time steps, bool `[I]`.

    Args:
        task: its features, in the order of `features`.
        features: with their transforms.
    """
    kept = [config.calendar not in EVEN and not config.static for config in task.features]
    return np.repeat(kept, [feature.num_inputs for feature in features])


def register_units(lagged: np.ndarray, steps: int) -> int:
    """Units of a register of so many time steps."""
    return 2 * (len(lagged) + (steps - 1) * int(lagged.sum()))


def begin_linear(model: SequenceModel, splits: dict[str, Split], lagged: np.ndarray) -> np.ndarray:
    """Gives a model the weights of a linear autoregression.

    Args:
        model: of one layer of relu units, as many as `register_units` says of some time steps.
        splits: as `dataset.load` gives them.
        lagged: as `lagged_inputs` gives them.

    Returns:
        The mean absolute error of each output on the validation split, float32 `[O]`.

    Raises:
        ValueError: the model has other layers; or no row has so long a past.
    """
    layer, width, deep = model.config.layers[0], len(lagged), int(lagged.sum())
    older, rest = divmod(layer.units - 2 * width, 2 * max(1, deep))
    if len(model.config.layers) > 1 or layer.activation != "relu" or rest or older < 0:
        raise ValueError(
            f"--linear-start needs one layer rnn:UNITS:relu, with UNITS {2 * width} (two for each "
            f"of the network's inputs) and a multiple of {2 * deep} (of those that are not static "
            "and no hour of day or day of year)"
        )
    weights, intercept, errors = _fitted(model, splits, older + 1, lagged)
    pairs = np.array([[1.0, -1.0]])
    kernel = np.zeros((width, layer.units), np.float32)
    kernel[:, : 2 * width] = np.kron(np.eye(width), pairs)
    cell, head = model.rnn.cells[0], model.rnn.head
    cell.kernel.assign(kernel)
    cell.recurrent_kernel.assign(_shift(layer.units, lagged))
    cell.bias.assign(np.zeros(layer.units, np.float32))
    # The newest time step first, as the register has it.
    by_age = weights.reshape(older + 1, width, -1)[::-1]
    kept = np.concatenate([by_age[0], by_age[1:, lagged].reshape(older * deep, -1)])
    head.kernel.assign(np.stack([kept, -kept], axis=1).reshape(layer.units, -1))
    head.bias.assign(intercept)
    return errors


def _shift(units: int, lagged: np.ndarray) -> np.ndarray:
    """Moves each time step of a register on to the next one's place, float32 `[H, H]`."""
    kept = np.concatenate([np.repeat(lagged, 2), np.ones(units - 2 * len(lagged), bool)])
    sources = np.flatnonzero(kept)[: units - 2 * len(lagged)]
    shift = np.zeros((units, units), np.float32)
    shift[sources, 2 * len(lagged) + np.arange(len(sources))] = 1.0
    return shift


def _fitted(
    model: SequenceModel, splits: dict[str, Split], steps: int, lagged: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights `[steps * I, O]`, oldest time step first, and the intercept `[O]`, of what the
    head gives: a standardised change, or a standardised target; and the errors `[O]`."""
    change = np.array([isinstance(output.transform, Change) for output in model.outputs_spec])
    train, validation = (
        replace(splits[name], known=splits[name].known & change) for name in ("train", "validation")
    )
    linear = LinearAutoregression(model.features, [steps], lagged)
    linear.fit(train, validation)
    std = np.array([output.transform.std for output in model.outputs_spec])
    mean = np.array([output.transform.mean for output in model.outputs_spec])
    found = linear.weights[0]
    errors = np.maximum(linear.errors[0], LEAST_ERROR * std).astype(np.float32)
    return found[:-1] / std, (found[-1] - mean) / std, errors
