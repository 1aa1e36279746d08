"""The kernels that are compared, one class a library, each on one thread.

To add a runner of Unroll's, add it to `RUNNERS`.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import tensorflow as tf

from app.engine.runner import ModelRunner
from app.manifest import Manifest, verified_manifest
from benchmarks.kernels.work import BFLOAT16, STEPS, inputs_of, median_seconds
from benchmarks.models.files import ROOT, BenchModel
from benchmarks.peers.common import PARTS
from benchmarks.processes.environment import peers_python

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


class TorchProcess:
    """PyTorch, in the peers' environment: see `kernel_torch.py`."""

    def __init__(self, model: BenchModel) -> None:
        self._process = subprocess.Popen(
            [str(peers_python()), "-m", "benchmarks.kernels.torch_form", str(model.units)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def seconds(self, rows: int) -> float:
        """See `Form.seconds`."""
        return self._ask(str(rows))

    def total(self) -> float:
        """See `Form.total`."""
        return self._ask("check")

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, question: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(question, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def _tensorflow_runner(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.tensorflow import TensorFlowRunner

    return TensorFlowRunner(folder, manifest)


def _onnxruntime_runner(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.onnx_graph import build_graph
    from app.kernels.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(build_graph(folder, manifest).SerializeToString(), manifest)


def _bfloat16_runner(folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.bfloat16 import Bfloat16Runner
    from app.kernels.onnx_graph import build_graph, cut_graph

    parts = cut_graph(build_graph(folder, manifest, take_lengths=False))
    return Bfloat16Runner([part.SerializeToString() for part in parts], manifest)


# Unroll's, each made from a folder and its manifest.
RUNNERS: dict[str, Callable[[Path, Manifest], ModelRunner]] = {
    "Unroll: TensorFlow": _tensorflow_runner,
    "Unroll: ONNX Runtime": _onnxruntime_runner,
    BFLOAT16: _bfloat16_runner,
}


def runner_form(
    model: BenchModel, make: Callable[[Path, Manifest], ModelRunner], most_rows: int
) -> CallForm:
    """One of Unroll's runners, warm."""
    runner = make(model.folder, verified_manifest(model.folder))
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
    names = ["outputs", *(f"next_{name}" for name in PARTS)]

    def prepare(inputs: np.ndarray) -> Callable[[], np.ndarray]:
        fed: dict[str, np.ndarray] = {"sequences": inputs}
        for name in PARTS:
            fed[name] = np.zeros((len(inputs), model.units), np.float32)
        fed["lengths"] = np.full(len(inputs), STEPS, np.int32)
        return lambda: np.asarray(session.run(names, fed)[0])

    return CallForm(prepare)


def keras_form(model: BenchModel) -> CallForm:
    """The Keras layers' `tf.function`, from the SavedModel; no mask, all rows are whole."""
    # Held by what is returned: the signature alone would lose its variables.
    loaded = tf.saved_model.load(str(model.keras))

    def prepare(inputs: np.ndarray) -> Callable[[], np.ndarray]:
        fed = {name: tf.zeros((len(inputs), model.units)) for name in PARTS}
        fed["sequences"] = tf.constant(inputs)
        return lambda: np.asarray(loaded.signatures["plain"](**fed)["outputs"].numpy())

    return CallForm(prepare)
