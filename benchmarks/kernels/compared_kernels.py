"""The kernels that are compared, each on one thread."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import onnxruntime
import tensorflow as tf

from benchmarks.kernels.unroll_kernels import load_runner
from benchmarks.kernels.work import STEPS, inputs_of, median_seconds
from benchmarks.model_files import STATES, BenchModel
from benchmarks.paths import BUILD
from benchmarks.processes.peers_venv import peers_python
from benchmarks.processes.side import Side

TOLERANCE = 1e-3
BFLOAT16_TOLERANCE = 1e-1


class Form(Protocol):
    """A kernel, loaded."""

    def seconds(self, rows: int) -> float:
        """Seconds of a call with `rows` sequences of `STEPS` time steps: a round's median."""
        ...

    def total(self) -> float:
        """The sum of the outputs of one sequence: the same for all forms."""
        ...


class CallForm:
    """A form in this process.

    Args:
        prepare: from inputs `[B, T, F]` to a call that gives the outputs `[B, T, 1]`.
    """

    def __init__(self, prepare: Callable[[np.ndarray], Callable[[], np.ndarray]]) -> None:
        self._prepare = prepare

    def seconds(self, rows: int) -> float:
        """See `Form.seconds`."""
        return median_seconds(self._prepare(inputs_of(rows)))

    def total(self) -> float:
        """See `Form.total`."""
        return float(self.outputs(1).sum())

    def outputs(self, rows: int) -> np.ndarray:
        """The outputs of `rows` sequences, float32 `[rows, STEPS, 1]`."""
        return self._prepare(inputs_of(rows))()


class TorchForm:
    """PyTorch, in the peers' environment: see `torch_side.py`."""

    def __init__(self, model: BenchModel) -> None:
        log = BUILD / "logs" / "kernels-torch.log"
        python = str(peers_python())
        self._side = Side("benchmarks.kernels.torch_side", [str(model.units)], {}, log, python)
        self._side.wait()

    def seconds(self, rows: int) -> float:
        """See `Form.seconds`."""
        return float(self._side.ask("measure", rows=rows)["seconds"])

    def total(self) -> float:
        """See `Form.total`."""
        return float(self._side.ask("check")["total"])

    def close(self) -> None:
        """Ends the process."""
        self._side.close()


def runner_form(model: BenchModel, name: str, most_rows: int) -> CallForm:
    """One of Unroll's runners, warm; see `load_runner`."""
    runner = load_runner(name, model.folder)
    runner.warm_up(most_rows, STEPS)

    def prepare(inputs: np.ndarray) -> Callable[[], np.ndarray]:
        lengths = np.full(len(inputs), STEPS, np.int32)
        state = np.zeros((len(inputs), runner.state_size), np.float32)
        return lambda: np.asarray(runner.run(inputs, lengths, state)[0])

    return CallForm(prepare)


def onnx_form(model: BenchModel) -> CallForm:
    """The peers' graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(model.onnx), options, providers=["CPUExecutionProvider"]
    )
    names = ["outputs", *(f"next_{name}" for name in STATES)]

    def prepare(inputs: np.ndarray) -> Callable[[], np.ndarray]:
        fed: dict[str, np.ndarray] = {"sequences": inputs}
        for name in STATES:
            fed[name] = np.zeros((len(inputs), model.units), np.float32)
        fed["lengths"] = np.full(len(inputs), STEPS, np.int32)
        return lambda: np.asarray(session.run(names, fed)[0])

    return CallForm(prepare)


def keras_form(model: BenchModel) -> CallForm:
    """The Keras layers' `tf.function`, from the SavedModel; no mask, all rows are whole."""
    # Held by what is returned: the signature alone would lose its variables.
    loaded = tf.saved_model.load(str(model.keras))

    def prepare(inputs: np.ndarray) -> Callable[[], np.ndarray]:
        fed = {name: tf.zeros((len(inputs), model.units)) for name in STATES}
        fed["sequences"] = tf.constant(inputs)
        return lambda: np.asarray(loaded.signatures["plain"](**fed)["outputs"].numpy())

    return CallForm(prepare)
