"""Builds an ONNX graph that computes what a SavedModel's `chunk` computes.

From the manifest (transforms, layers) and the weights in the checkpoint. Used by `onnxruntime.py`,
and in parts by `bfloat16.py`. Operators as in https://onnx.ai/onnx/operators/.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from app.errors import ModelRefused
from app.kernels.checkpoint import Checkpoint
from app.kernels.column_transforms import InputColumns, OutputColumns
from app.manifest import CellKind, Feature, Layer, Manifest, Output

# ONNX Runtime's newest operator set at the pinned version is higher; this one has all we need.
OPSET = 17

# The operator of each cell, and its gates in ONNX's order.
OPERATORS: Mapping[CellKind, tuple[str, tuple[str, ...]]] = {
    "rnn": ("RNN", ("new",)),
    "lstm": ("LSTM", ("input", "output", "forget", "new")),
    "gru": ("GRU", ("update", "reset", "new")),
}

# What passes between the parts of a graph: float32 `[S,C,I]` and `[S,C,H]`.
ENCODED, TOP = "encoded", "top"
# What padding adds to the gates i, f, g, o of an LSTM: sigmoid gives 0 for i and 1 for f, so c
# stays as it is.
HOLD = (-1e4, 1e4, 0.0, 0.0)
# The inputs of an LSTM, this one among them, are made a multiple of so many: of an odd number,
# products of bfloat16 are five times slower.
BLOCK = 32


def build_graph(folder: Path, manifest: Manifest, take_lengths: bool = True) -> onnx.ModelProto:
    """The graph: `sequences [S,C,F]`, `lengths [S]`, `state [S, sum of H]` -> `outputs [S,C,O]`,
    `next_state`.

    Args:
        folder: verified.
        manifest: of the folder.
        take_lengths: whether the recurrent operators are given the rows' lengths. Where a library
            does not heed them, an input tells each LSTM what is padding, so that its c is held,
            and h is taken from each row's last time step.

    Raises:
        ModelRefused: a weight is absent, or ONNX has no such cell.
    """
    builder = _Builder(folder)
    encoded, order = builder.encode(manifest.features)
    # The recurrent operators have time first.
    top = builder.one("Transpose", [builder.named(ENCODED, encoded)], perm=[1, 0, 2])
    if not take_lengths:
        builder.mark_padding()
    states = builder.split_state(manifest.state_sizes)
    final: list[str] = []
    for index, layer in enumerate(manifest.layers):
        initial = [states.pop(0) for _ in layer.states]
        # The first layer's weights follow the order in which `encode` makes its inputs.
        top, made = builder.layer(index, layer, top, initial, order if index == 0 else None)
        final += made
    builder.join_state(final)
    top = builder.named(TOP, builder.one("Transpose", [top], perm=[1, 0, 2]))
    total = builder.one("MatMul", [top, builder.constant(builder.checkpoint.weight("head/kernel"))])
    total = builder.one("Add", [total, builder.constant(builder.checkpoint.weight("head/bias"))])
    builder.decode(total, manifest.features, manifest.outputs)
    return builder.finish(manifest, len(order))


def cut_graph(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """The graph in parts: `sequences` -> `encoded`; `encoded`, `lengths`, `state` -> `top`,
    `next_state`; `top`, `sequences`, `lengths` -> `outputs`."""
    cut = Extractor(graph).extract_model
    return (
        cut(["sequences"], [ENCODED]),
        cut([ENCODED, "lengths", "state"], [TOP, "next_state"]),
        cut([TOP, "sequences", "lengths"], ["outputs"]),
    )


class _Builder:
    """Collects nodes and constants; names them by number."""

    def __init__(self, folder: Path) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.checkpoint = Checkpoint(folder)
        # Where operators do not take lengths: which time steps are padding, as a truth and as a
        # number, `[C,S,1]`, and which are last.
        self._is_padding = self._padding = self._last = ""

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

    def named(self, name: str, value: str) -> str:
        """A value under a name of its own, by which the graph can be cut."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def mark_padding(self) -> None:
        """From now on layers do not take lengths."""
        invalid = self.one("Not", [self._valid(ENCODED)])
        self._is_padding = self.one("Transpose", [invalid], perm=[1, 0, 2])
        self._padding = self.one("Cast", [self._is_padding], to=TensorProto.FLOAT)
        one = self.constant(1, np.int32)
        lasts = self.one("Sub", ["lengths", one])
        rows = self._count("lengths", 0)
        axis = self.constant([1], np.int64)
        pairs = [self.one("Unsqueeze", [part, axis]) for part in (lasts, rows)]
        # int64 `[S,2]`: time step and row.
        self._last = self.one("Cast", [self.one("Concat", pairs, axis=1)], to=TensorProto.INT64)

    def columns(self, indices: Sequence[int] | np.ndarray) -> str:
        """Some raw columns, float32 `[S,C,N]`."""
        return self.one("Gather", ["sequences", self.constant(indices, np.int64)], axis=2)

    def encode(self, features: tuple[Feature, ...]) -> tuple[str, list[int]]:
        """All features, each kind of transform at once: an operator a feature would cost more.

        Returns:
            float32 `[S,C,I]`, and for each of its columns its place among the network's inputs.
        """
        columns = InputColumns.of(features)
        made = []
        if columns.plain:
            mean, std = self.constant(columns.mean), self.constant(columns.std)
            centred = self.one("Sub", [self.columns(columns.plain), mean])
            made.append(self.one("Div", [centred, std]))
        if columns.cyclic:
            scale = self.constant(columns.scale)
            angle = self.one("Mul", [self.columns(columns.cyclic), scale])
            made += [self.one("Sin", [angle]), self.one("Cos", [angle])]
        values = made[0] if len(made) == 1 else self.one("Concat", made, axis=2)
        if columns.missing:
            absent = self.one("IsNaN", [self.columns(columns.missing)])
            flags = self.one("Cast", [absent], to=TensorProto.FLOAT)
            known = self.one("Where", [self.one("IsNaN", [values]), self.constant(0.0), values])
            values = self.one("Concat", [known, flags], axis=2)
        return values, columns.order

    def split_state(self, sizes: list[int]) -> list[str]:
        """`state` as the operators take it, a `[1,S,H]` each."""
        axis = self.constant([0], np.int64)
        whole = self.one("Unsqueeze", ["state", axis])
        if len(sizes) == 1:
            return [whole]
        cuts = self.constant(sizes, np.int64)
        return self.add("Split", [whole, cuts], len(sizes), axis=2)

    def join_state(self, states: list[str]) -> None:
        whole = states[0] if len(states) == 1 else self.one("Concat", states, axis=2)
        axis = self.constant([0], np.int64)
        self._nodes.append(helper.make_node("Squeeze", [whole, axis], ["next_state"]))

    def layer(
        self, index: int, layer: Layer, inputs: str, initial: list[str], order: list[int] | None
    ) -> tuple[str, list[str]]:
        """A layer's outputs `[C,S,H]` and final states."""
        if layer.cell not in OPERATORS:
            raise ModelRefused(f"ONNX has no operator for the cell {layer.cell!r}")
        operator, gates = OPERATORS[layer.cell]
        places = layer.spec.places(gates)
        kernel, recurrent, biases = self.checkpoint.layer(index)
        if order is not None:
            kernel = kernel[order]
        if self._padding and layer.cell == "lstm":
            inputs, kernel = self._held(inputs, kernel)
        attributes: dict[str, Any] = {"hidden_size": layer.units}
        if layer.cell == "gru":
            attributes["linear_before_reset"] = 1
        elif layer.cell == "rnn":
            attributes["activations"] = [layer.activation.capitalize()]
        outputs, *final = self.add(
            operator,
            [
                inputs,
                # ONNX wants [1, G*H, I], [1, G*H, H] and [1, 2*G*H].
                self.constant(_ordered(kernel, places).T[np.newaxis]),
                self.constant(_ordered(recurrent, places).T[np.newaxis]),
                self.constant(_ordered(biases, places).reshape(1, -1)),
                "" if self._padding else "lengths",
                *initial,
            ],
            1 + len(layer.states),
            **attributes,
        )
        outputs = self.one("Squeeze", [outputs, self.constant([1], np.int64)])
        if self._padding:
            last = self.one("GatherND", [outputs, self._last])
            final[0] = self.one("Unsqueeze", [last, self.constant([0], np.int64)])
        return outputs, final

    def _held(self, inputs: str, kernel: np.ndarray) -> tuple[str, np.ndarray]:
        """An LSTM's inputs and their weights `[I, 4*H]` with what holds its c in padding."""
        width = BLOCK - len(kernel) % BLOCK
        flag = self.one("Mul", [self._padding, self.constant([1.0] + [0.0] * (width - 1))])
        more = np.zeros((width, kernel.shape[1]))
        more[0] = np.repeat(HOLD, kernel.shape[1] // len(HOLD))
        # What is there could be larger than what holds: a layer of ReLUs runs on through padding.
        inputs = self.one("Where", [self._is_padding, self.constant(0.0), inputs])
        return self.one("Concat", [inputs, flag], axis=2), np.concatenate([kernel, more])

    def decode(
        self, total: str, features: tuple[Feature, ...], outputs: tuple[Output, ...]
    ) -> None:
        """The head's outputs in real units, zero beyond each row's length."""
        columns = OutputColumns.of(outputs, features)
        scaled = self.one("Mul", [total, self.constant(columns.std)])
        total = self.one("Add", [scaled, self.constant(columns.mean)])
        if columns.is_change.any():
            is_change = self.constant(columns.is_change, np.bool_)
            # Not a product with 0: another column may be missing, which is NaN.
            present = self.one(
                "Where", [is_change, self.columns(columns.of_feature), self.constant(0.0)]
            )
            total = self.one("Add", [total, present])
        self._nodes.append(
            helper.make_node(
                "Where", [self._valid("sequences"), total, self.constant(0.0)], ["outputs"]
            )
        )

    def _valid(self, like: str) -> str:
        """Whether a time step is within its row's length, bool `[S, C, 1]`; `like` has its S, C."""
        times = self.one("Unsqueeze", [self._count(like, 1), self.constant([1], np.int64)])
        lengths = self.one("Unsqueeze", ["lengths", self.constant([1, 2], np.int64)])
        return self.one("Less", [times, lengths])

    def _count(self, like: str, axis: int) -> str:
        """0, 1, 2, ... along an axis of `like`, int32."""
        size = self.one("Gather", [self.one("Shape", [like]), self.constant(axis, np.int64)])
        end = self.one("Cast", [size], to=TensorProto.INT32)
        return self.one("Range", [self.constant(0, np.int32), end, self.constant(1, np.int32)])

    def finish(self, manifest: Manifest, num_inputs: int) -> onnx.ModelProto:
        def tensor(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, kind, shape)

        size = sum(manifest.state_sizes)
        graph = helper.make_graph(
            self._nodes,
            "chunk",
            [
                tensor("sequences", TensorProto.FLOAT, ["S", "C", len(manifest.features)]),
                tensor("lengths", TensorProto.INT32, ["S"]),
                tensor("state", TensorProto.FLOAT, ["S", size]),
            ],
            [
                tensor("outputs", TensorProto.FLOAT, ["S", "C", len(manifest.outputs)]),
                tensor("next_state", TensorProto.FLOAT, ["S", size]),
            ],
            self._constants,
            value_info=[
                tensor(ENCODED, TensorProto.FLOAT, ["S", "C", num_inputs]),
                tensor(TOP, TensorProto.FLOAT, ["S", "C", manifest.layers[-1].units]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model)
        return model


def _ordered(weights: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
    """Columns of gates `[N, G*H]`, the gates taken from these places in turn."""
    parts = np.split(weights, len(places), axis=1)
    return np.concatenate([parts[place] for place in places], axis=1)
