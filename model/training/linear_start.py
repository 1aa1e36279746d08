"""`--linear-start`: a layer of relu units that begins as the linear autoregression.

Its units are a shift register: at each time step a unit takes over what its neighbour held. As relu
passes no negative number, each input has two units, for its positive and its negative part; so a
sequence begins, with zeros, as if all before had been the mean. The head has the weights of a
linear autoregression. (Recurrent layers of relu units that begin near the identity: Le, Jaitly and
Hinton 2015, arXiv:1504.00941.)
"""

from dataclasses import replace

import numpy as np

from model.data.dataset import Split
from model.evaluation.linear_autoregression import LinearAutoregression
from model.network.sequence_model import SequenceModel
from model.transforms import Change


def begin_linear(model: SequenceModel, splits: dict[str, Split]) -> None:
    """Gives a model the weights of a linear autoregression.

    Args:
        model: of one layer of relu units, a multiple of twice the network's inputs.
        splits: as `dataset.load` gives them.

    Raises:
        ValueError: the model has other layers; or no row has so long a past.
    """
    layer, width = model.config.layers[0], model.config.num_inputs
    steps, rest = divmod(layer.units, 2 * width)
    if len(model.config.layers) > 1 or layer.activation != "relu" or rest or not steps:
        raise ValueError(
            "--linear-start needs one layer rnn:UNITS:relu, with UNITS a multiple of "
            f"{2 * width}, twice the network's inputs"
        )
    weights, intercept = _fitted(model, splits, steps)
    kernel = np.zeros((width, layer.units), np.float32)
    kernel[:, : 2 * width] = np.kron(np.eye(width), [1.0, -1.0])
    cell, head = model.rnn.cells[0], model.rnn.head
    cell.kernel.assign(kernel)
    cell.recurrent_kernel.assign(np.eye(layer.units, k=2 * width, dtype=np.float32))
    cell.bias.assign(np.zeros(layer.units, np.float32))
    # The newest time step first, as the register has it.
    by_age = weights.reshape(steps, width, -1)[::-1].reshape(steps * width, -1)
    head.kernel.assign(np.stack([by_age, -by_age], axis=1).reshape(layer.units, -1))
    head.bias.assign(intercept)


def _fitted(
    model: SequenceModel, splits: dict[str, Split], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The weights `[steps * I, O]`, oldest time step first, and the intercept `[O]`, of what the
    head gives: a standardised change, or a standardised target."""
    change = np.array([isinstance(output.transform, Change) for output in model.outputs_spec])
    train, validation = (
        replace(splits[name], known=splits[name].known & change) for name in ("train", "validation")
    )
    linear = LinearAutoregression(model.features, [steps])
    linear.fit(train, validation)
    std = np.array([output.transform.std for output in model.outputs_spec])
    mean = np.array([output.transform.mean for output in model.outputs_spec])
    found = linear.weights[0]
    return found[:-1] / std, (found[-1] - mean) / std
