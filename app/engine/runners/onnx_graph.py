"""Builds an ONNX graph that computes what a SavedModel's `chunk` computes.

From the manifest (transforms, layers) and the weights in the checkpoint. Used by `onnxruntime.py`.
Operators as in https://onnx.ai/onnx/operators/; their gates stand in another order than ours.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from app.errors import ModelRefused
from app.manifest import Feature, Layer, Manifest, Output

# ONNX Runtime's newest operator set at the pinned version is higher; this one has all we need.
OPSET = 17

# Our gates in ONNX's order. LSTM: i, f, g, o -> i, o, f, g. GRU: z, r, n stands the same.
GATES = {"rnn": (0,), "gru": (0, 1, 2), "lstm": (0, 3, 1, 2)}
OPERATORS = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}


def build_graph(folder: Path, manifest: Manifest) -> onnx.ModelProto:
    """The graph: `sequences [S,C,F]`, `lengths [S]`, states -> `outputs [S,C,O]`, `next_` states.

    Raises:
        ModelRefused: a weight is absent.
    """
    builder = _Builder(folder)
    columns = builder.add("Split", ["sequences"], len(manifest.features), axis=2)
    encoded = [
        made
        for feature, column in zip(manifest.features, columns, strict=True)
        for made in builder.encode(feature, column)
    ]
    top = builder.one("Concat", encoded, axis=2)
    # The recurrent operators have time first.
    top = builder.one("Transpose", [top], perm=[1, 0, 2])
    for index, layer in enumerate(manifest.layers):
        top = builder.layer(index, layer, top)
    top = builder.one("Transpose", [top], perm=[1, 0, 2])
    total = builder.one("MatMul", [top, builder.constant(builder.weight("head/kernel"))])
    total = builder.one("Add", [total, builder.constant(builder.weight("head/bias"))])
    names = [feature.name for feature in manifest.features]
    builder.decode(total, columns, names, manifest.outputs)
    return builder.finish(manifest)


class _Builder:
    """Collects nodes and constants; names them by number."""

    def __init__(self, folder: Path) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))

    def weight(self, name: str) -> np.ndarray:
        key = f"weights/{name}/.ATTRIBUTES/VARIABLE_VALUE"
        if not self._reader.has_tensor(key):
            raise ModelRefused(f"the checkpoint has no weight {name!r}")
        return np.asarray(self._reader.get_tensor(key))

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, inputs: list[str], count: int = 1, **attributes: Any) -> list[str]:
        number = len(self._nodes)
        outputs = [f"{operator}_{number}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def one(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        return self.add(operator, inputs, **attributes)[0]

    def encode(self, feature: Feature, column: str) -> list[str]:
        transform = feature.transform
        if transform["kind"] == "cyclic":
            scale = self.constant(2 * math.pi / transform["period"])
            angle = self.one("Mul", [column, scale])
            made = [self.one("Sin", [angle]), self.one("Cos", [angle])]
        elif transform["kind"] == "standardize":
            centred = self.one("Sub", [column, self.constant(transform["mean"])])
            made = [self.one("Div", [centred, self.constant(transform["std"])])]
        else:
            raise ModelRefused(f"feature {feature.name!r}: unknown transform {transform['kind']!r}")
        if feature.missing:
            absent = self.one("IsNaN", [column])
            made = [self.one("Where", [absent, self.constant(0.0), value]) for value in made]
            made.append(self.one("Cast", [absent], to=TensorProto.FLOAT))
        return made

    def layer(self, index: int, layer: Layer, inputs: str) -> str:
        gates = GATES[layer.cell]
        kernel, recurrent, bias = (
            self.weight(f"layer_{index}/{part}") for part in ("kernel", "recurrent_kernel", "bias")
        )
        both = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])

        initial = [
            self.one("Unsqueeze", [part.tensor, self.constant([0], np.int64)])
            for part in layer.states
        ]
        attributes: dict[str, Any] = {"hidden_size": layer.units}
        if layer.cell == "gru":
            attributes["linear_before_reset"] = 1
        elif layer.cell == "rnn":
            attributes["activations"] = [layer.activation.capitalize()]
        outputs, *final = self.add(
            OPERATORS[layer.cell],
            [
                inputs,
                # ONNX wants [1, G*H, I], [1, G*H, H] and [1, 2*G*H].
                self.constant(_ordered(kernel, gates).T[np.newaxis]),
                self.constant(_ordered(recurrent, gates).T[np.newaxis]),
                self.constant(_ordered(both, gates).reshape(1, -1)),
                "lengths",
                *initial,
            ],
            1 + len(layer.states),
            **attributes,
        )
        for part, made in zip(layer.states, final, strict=True):
            axis = self.constant([0], np.int64)
            self._nodes.append(helper.make_node("Squeeze", [made, axis], [f"next_{part.tensor}"]))
        return self.one("Squeeze", [outputs, self.constant([1], np.int64)])

    def decode(
        self, total: str, columns: list[str], names: list[str], outputs: tuple[Output, ...]
    ) -> None:
        transforms = [output.transform for output in outputs]
        std = self.constant([transform["std"] for transform in transforms])
        mean = self.constant([transform["mean"] for transform in transforms])
        total = self.one("Add", [self.one("Mul", [total, std]), mean])
        zero = self.one("Mul", [columns[0], self.constant(0.0)])
        present = [
            columns[names.index(transform["feature"])] if transform["kind"] == "change" else zero
            for transform in transforms
        ]
        total = self.one("Add", [total, self.one("Concat", present, axis=2)])
        self._nodes.append(
            helper.make_node("Where", [self._valid(), total, self.constant(0.0)], ["outputs"])
        )

    def _valid(self) -> str:
        """Whether a time step is within its row's length, bool `[S, C, 1]`."""
        shape = self.one("Shape", ["sequences"])
        steps = self.one("Gather", [shape, self.constant(1, np.int64)])
        steps = self.one("Cast", [steps], to=TensorProto.INT32)
        times = self.one("Range", [self.constant(0, np.int32), steps, self.constant(1, np.int32)])
        times = self.one("Unsqueeze", [times, self.constant([1], np.int64)])
        lengths = self.one("Unsqueeze", ["lengths", self.constant([1, 2], np.int64)])
        return self.one("Less", [times, lengths])

    def finish(self, manifest: Manifest) -> onnx.ModelProto:
        def tensor(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        states = [(p.tensor, layer.units) for layer in manifest.layers for p in layer.states]
        graph = helper.make_graph(
            self._nodes,
            "chunk",
            [
                tensor("sequences", TensorProto.FLOAT, ["S", "C", len(manifest.features)]),
                tensor("lengths", TensorProto.INT32, ["S"]),
                *(tensor(name, TensorProto.FLOAT, ["S", units]) for name, units in states),
            ],
            [
                tensor("outputs", TensorProto.FLOAT, ["S", "C", len(manifest.outputs)]),
                *(tensor(f"next_{n}", TensorProto.FLOAT, ["S", units]) for n, units in states),
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model)
        return model


def _ordered(weights: np.ndarray, gates: tuple[int, ...]) -> np.ndarray:
    """Columns of gates `[N, G*H]` in another order of gates."""
    parts = np.split(weights, len(gates), axis=1)
    return np.concatenate([parts[gate] for gate in gates], axis=1)
