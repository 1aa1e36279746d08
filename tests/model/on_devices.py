"""What tests ask of a process with several devices: TensorFlow can be split only when it starts.

Where something sits is read from what TensorFlow made of it: from variables, and from the graph it
partitioned and executed. Not from the plan.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import verified_manifest
from model.export.saved_model import export_model
from model.layers.implementations import Form
from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from model.placement.devices import find_devices, split_devices
from model.placement.gpus import take_memory_as_needed
from model.placement.plan import plan_replicas
from model.train_config import Recipe
from model.training.optimizer import make_optimizer
from model.training.trainer import masked_error
from tests.model.fake_cudnn import fake_cudnn
from tests.support.exported_models import FEATURES, OUTPUTS, no_card, raw_sequence, to_json

STACK = ("lstm:16", "gru:12", "rnn:10", "lstm:8")
BATCH, STEPS = 12, 10
NUM_INPUTS = sum(feature.num_inputs for feature in FEATURES)
SHORT = re.compile(r".*device:")


class Trained(NamedTuple):
    """What a training left behind.

    Attributes:
        losses: of each batch.
        weights: at the end.
        variables: device of each weight, by its path.
        slots: device of each of the optimizer's variables, by the weight's path and what it is.
        nodes: name, operation and device of each node of the graph that ran.
    """

    losses: list[float]
    weights: list[np.ndarray]
    variables: dict[str, str]
    slots: dict[str, str]
    nodes: list[tuple[str, str, str]]


def short(device: str) -> str:
    return SHORT.sub("", device)


def make_model(
    num_devices: int,
    replicas: int = 1,
    chunk_steps: int | None = None,
    stack: tuple[str, ...] = STACK,
    devices: tuple[str, ...] = (),
    form: Form = "fastest",
    **dropout: float,
) -> SequenceModel:
    take_memory_as_needed()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # The CPU's, unless others are asked for: most tests are not about the GPU that may be here.
    devices = devices or tuple(f"cpu:{index}" for index in range(num_devices))
    if num_devices > 1:
        split_devices(num_devices, devices)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    config = RNNConfig(
        layers=tuple(LayerConfig.parse(text).model_copy(update=dropout) for text in stack),
        num_inputs=NUM_INPUTS,
        num_outputs=len(OUTPUTS),
        input_noise=0.1 if dropout else 0.0,
    )
    placements = plan_replicas(config, find_devices(devices), replicas)
    return SequenceModel(config, FEATURES, OUTPUTS, placements, chunk_steps, form=form)


def batch(seed: int, rows: int = BATCH) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    random = np.random.default_rng(seed)
    sequences = np.stack([raw_sequence(random, STEPS) for _ in range(rows)])
    lengths = random.integers(1, STEPS + 1, rows)
    targets = sequences[..., :1] + random.normal(size=(rows, STEPS, len(OUTPUTS)))
    targets[np.arange(STEPS) >= lengths[:, np.newaxis]] = np.nan
    inputs = {"sequences": tf.constant(sequences), "lengths": tf.constant(lengths, tf.int32)}
    return inputs, tf.constant(targets, tf.float32)


def train(
    num_devices: int,
    num_batches: int,
    replicas: int = 1,
    chunk_steps: int | None = None,
    rows: int = BATCH,
    **how: Any,
) -> Trained:
    """Trains on some batches, and reads where everything was in the first of them.

    `how` is what else `make_model` takes.
    """
    model = make_model(num_devices, replicas, chunk_steps, **how)
    model.compile(
        optimizer=make_optimizer(
            Recipe(
                learning_rate=1e-3,
                updates=num_batches,
                batch_size=rows,
                window_steps=STEPS,
                average_momentum=0.98,
            )  # fmt: skip
        ),
        loss=masked_error(np.ones(len(OUTPUTS), np.float32)),
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    losses, nodes = [], []
    for number in range(num_batches):
        if number == 0:
            context.context().enable_run_metadata()
            context.context().enable_graph_collection()
        model.reset_metrics()
        losses.append(float(step(batch(number, rows))["loss"]))
        if number == 0:
            nodes = _executed(context.context().export_run_metadata())
            context.context().disable_run_metadata()
    slots = {
        variable.path.split("/", 1)[1]: short(variable.value.device)
        for variable in model.optimizer.variables
    }
    return Trained(
        losses,
        [variable.numpy() for variable in model.trainable_variables],
        {v.path: short(v.value.device) for v in model.trainable_variables},
        slots,
        nodes,
    )


def train_with_fake_cudnn(*given: Any, **named: Any) -> Trained:
    """As `train`, with what stands for cuDNN on every device."""
    calls: list[str] = []
    with fake_cudnn(calls):
        found = train(*given, **named)
    assert {"lstm", "gru", "rnn_tanh"} == set(calls)
    return found


def _executed(metadata: object) -> list[tuple[str, str, str]]:
    return [
        (node.name, node.op, short(node.device))
        for function in metadata.function_graphs  # type: ignore[attr-defined]
        for partition in function.partition_graphs
        for node in partition.node
    ]


def unrolled(num_devices: int, chunk_steps: int | None) -> list[np.ndarray]:
    """Outputs and final states without training."""
    model = make_model(num_devices, chunk_steps=chunk_steps)
    inputs, _ = batch(3)
    predict = tf.function(model.predict_sequences, autograph=False)
    outputs, state = predict(inputs["sequences"], inputs["lengths"], form="compiled")
    return [outputs.numpy(), *(part.numpy() for entry in state for part in entry)]


def exported(models_dir: Path, num_devices: int, devices: tuple[str, ...] = ()) -> Path:
    model = make_model(num_devices, devices=devices)
    details = {"example": to_json(raw_sequence(np.random.default_rng(9), 4))}
    return export_model(model, models_dir, "placed", details, no_card)


class Served(NamedTuple):
    """What a runner gave, and where it was.

    Attributes:
        outputs, state: of one chunk.
        devices: of each layer, by the runner; checked against every variable.
        nodes: of the chunk's graph, as in `Trained`.
    """

    outputs: np.ndarray
    state: np.ndarray
    devices: tuple[str, ...]
    nodes: list[tuple[str, str, str]]


def served(folder: Path, num_devices: int) -> Served:
    """Loads and runs an export on so many devices."""
    runner = TensorFlowRunner(folder, verified_manifest(folder), num_devices)
    weights = runner._model._loaded.weights
    for index, device in enumerate(runner.devices):
        found = {short(variable.device) for variable in weights[f"layer_{index}"].values()}
        assert found == {device}
    runner.set_limits(4, STEPS)
    random = np.random.default_rng(5)
    sequences = np.stack([raw_sequence(random, STEPS) for _ in range(4)])
    state = random.normal(size=(4, runner.state_size)).astype(np.float32)
    context.context().enable_run_metadata()
    context.context().enable_graph_collection()
    outputs, next_state = runner.run(sequences, np.array([STEPS, 3, 1, 7], np.int32), state)
    nodes = _executed(context.context().export_run_metadata())
    return Served(outputs, next_state, runner.devices, nodes)
