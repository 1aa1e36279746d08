"""`Network`, what an ONNX graph of a model is made of, and `GraphBuilder`, which adds its parts.

Operators as in https://onnx.ai/onnx/operators/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model.export.column_transforms import InputColumns, OutputColumns
from model.network_config import LayerConfig
from model.transforms import Embedding, Feature, Output

# ONNX Runtime's newest operator set at the pinned version is higher; this one has all we need.
OPSET = 17

WEIGHTS = ("kernel", "recurrent_kernel", "bias")


@dataclass(frozen=True)
class Network:
    """What a graph is made of.

    Attributes:
        features, outputs: raw columns and outputs, with their transforms.
        layers: from the bottom.
        weights: by name, such as `layer_0/kernel` or `head/bias`, float32.
    """

    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    layers: tuple[LayerConfig, ...]
    weights: Mapping[str, np.ndarray]

    @property
    def embeddings(self) -> dict[int, np.ndarray]:
        """The weights of each embedding, by its feature's place, float32 `[V, size]`."""
        return {
            index: self.weights[f"embedding_{index}/table"]
            for index, feature in enumerate(self.features)
            if isinstance(feature.transform, Embedding)
        }

    def layer_weights(self, index: int, order: Sequence[int]) -> list[np.ndarray]:
        """The weights of a layer, as `WEIGHTS` has them.

        Args:
            index: of the layer.
            order: in which `encode` makes the inputs: the lowest layer's kernel follows it.
        """
        kernel, *others = (self.weights[f"layer_{index}/{name}"] for name in WEIGHTS)
        return [kernel if index else kernel[list(order)], *others]

    @property
    def state_sizes(self) -> list[int]:
        """Units of each state tensor, layers in order, h before c."""
        return [layer.units for layer in self.layers for _ in layer.spec.states]


def tensor(
    name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """What a graph takes or gives; an axis with a name may have any size."""
    return helper.make_tensor_value_info(name, kind, shape)


class GraphBuilder:
    """Collects nodes and constants of a graph; names them by number."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An array that the graph brings."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, inputs: list[str], count: int = 1, **attributes: Any) -> list[str]:
        """An operator's outputs, so many."""
        number = len(self._nodes)
        outputs = [f"{operator}_{number}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def one(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """An operator's only output."""
        return self.add(operator, inputs, **attributes)[0]

    def add_named(self, operator: str, inputs: list[str], name: str) -> str:
        """As `one`; the output has this name."""
        self._nodes.append(helper.make_node(operator, inputs, [name]))
        return name

    def named(self, name: str, value: str) -> str:
        """A value under a name of its own, by which the graph can be cut."""
        return self.add_named("Identity", [value], name)

    def time_first(self, values: str) -> str:
        """`[S,C,N]` as the recurrent operators have it, `[C,S,N]`."""
        return self.one("Transpose", [values], perm=[1, 0, 2])

    def batch_first(self, values: str) -> str:
        """`[C,S,N]` of a recurrent operator as `[S,C,N]`."""
        return self.one("Transpose", [values], perm=[1, 0, 2])

    def columns(self, indices: Sequence[int] | np.ndarray) -> str:
        """Some raw columns, float32 `[S,C,N]`."""
        return self.one("Gather", ["sequences", self.constant(indices, np.int64)], axis=2)

    def encode(self, network: Network) -> tuple[str, list[int]]:
        """All features, each kind of transform at once: an operator a feature would cost more.

        Returns:
            float32 `[S,C,I]`, and for each of its columns its place among the network's inputs.
        """
        columns = InputColumns.of(network.features, network.embeddings)
        made = []
        if columns.plain:
            mean, std = self.constant(columns.mean), self.constant(columns.std)
            centred = self.one("Sub", [self.columns(columns.plain), mean])
            made.append(self.one("Div", [centred, std]))
        if columns.cyclic:
            scale = self.constant(columns.scale)
            angle = self.one("Mul", [self.columns(columns.cyclic), scale])
            made += [self.one("Sin", [angle]), self.one("Cos", [angle])]
        if columns.coded:
            made.append(self.of_codes(columns))
        values = made[0] if len(made) == 1 else self.one("Concat", made, axis=2)
        if columns.missing:
            absent = self.one("IsNaN", [self.columns(columns.missing)])
            flags = self.one("Cast", [absent], to=TensorProto.FLOAT)
            values = self.one("Concat", [self.known(values), flags], axis=2)
        return values, columns.order

    def known(self, values: str) -> str:
        """Zeros for NaN."""
        return self.one("Where", [self.one("IsNaN", [values]), self.constant(0.0), values])

    def of_codes(self, columns: InputColumns) -> str:
        """The columns of all categories."""
        # What pads a batch may be any number.
        codes = self.one("Max", [self.known(self.columns(columns.coded)), self.constant(0.0)])
        codes = self.one("Min", [codes, self.constant(columns.last)])
        rows = self.one("Add", [codes, self.constant(columns.first)])
        rows = self.one("Cast", [rows], to=TensorProto.INT64)
        # [S,C,K,N]: of each of K categories the row of its code.
        found = self.one("Gather", [self.constant(columns.table), rows], axis=0)
        return self.one("ReduceSum", [found, self.constant([2], np.int64)], keepdims=0)

    def split_state(self, sizes: list[int]) -> list[str]:
        """`state` as the operators take it, a `[1,S,H]` each."""
        axis = self.constant([0], np.int64)
        whole = self.one("Unsqueeze", ["state", axis])
        if len(sizes) == 1:
            return [whole]
        cuts = self.constant(sizes, np.int64)
        return self.add("Split", [whole, cuts], len(sizes), axis=2)

    def join_state(self, states: list[str]) -> str:
        """States of operators, `[1,S,H]` each, as one `[S, sum of H]`."""
        whole = states[0] if len(states) == 1 else self.one("Concat", states, axis=2)
        return self.one("Squeeze", [whole, self.constant([0], np.int64)])

    def layer(
        self,
        layer: LayerConfig,
        weights: Sequence[np.ndarray],
        inputs: str,
        lengths: str,
        initial: list[str],
    ) -> tuple[str, list[str]]:
        """A layer's outputs `[C,S,H]` and final states.

        Args:
            layer: its cells.
            weights: as `WEIGHTS` has them.
            inputs: `[C,S,I]`.
            lengths: int32 `[S]`; empty where all rows have C time steps.
            initial: `[1,S,H]` each.
        """
        operator = layer.spec.onnx
        places = layer.spec.places(operator.gates)
        kernel, recurrent, bias = weights
        # Of inputs and of state; a cell with one bias adds it to the inputs.
        biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
        attributes: dict[str, Any] = {"hidden_size": layer.units, **operator.attributes}
        if len(layer.spec.activations) > 1:
            attributes["activations"] = [layer.activation.capitalize()]
        outputs, *final = self.add(
            operator.name,
            [
                inputs,
                # ONNX wants [1, G*H, I], [1, G*H, H] and [1, 2*G*H].
                self.constant(_ordered(kernel, places).T[np.newaxis]),
                self.constant(_ordered(recurrent, places).T[np.newaxis]),
                self.constant(_ordered(biases, places).reshape(1, -1)),
                lengths,
                *initial,
            ],
            1 + len(layer.spec.states),
            **attributes,
        )
        return self.one("Squeeze", [outputs, self.constant([1], np.int64)]), final

    def decode(self, top: str, network: Network) -> str:
        """The head's outputs in real units, of the top layer's `[S,C,H]`."""
        total = self.one("MatMul", [top, self.constant(network.weights["head/kernel"])])
        total = self.one("Add", [total, self.constant(network.weights["head/bias"])])
        columns = OutputColumns.of(network.outputs, network.features)
        scaled = self.one("Mul", [total, self.constant(columns.std)])
        total = self.one("Add", [scaled, self.constant(columns.mean)])
        if not columns.is_change.any():
            return total
        is_change = self.constant(columns.is_change, np.bool_)
        # Not a product with 0: another column may be missing, which is NaN.
        present = self.one(
            "Where", [is_change, self.columns(columns.of_feature), self.constant(0.0)]
        )
        return self.one("Add", [total, present])

    def valid(self) -> str:
        """Whether a time step is within its row's length, bool `[S, C, 1]`."""
        shape = self.one("Shape", ["sequences"])
        size = self.one("Gather", [shape, self.constant(1, np.int64)])
        end = self.one("Cast", [size], to=TensorProto.INT32)
        first, one = self.constant(0, np.int32), self.constant(1, np.int32)
        times = self.one("Range", [first, end, one])
        times = self.one("Unsqueeze", [times, self.constant([1], np.int64)])
        lengths = self.one("Unsqueeze", ["lengths", self.constant([1, 2], np.int64)])
        return self.one("Less", [times, lengths])

    def finish(
        self,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        known: Sequence[onnx.ValueInfoProto] = (),
    ) -> onnx.ModelProto:
        """The graph of all that was added.

        Args:
            name: of the graph.
            inputs, outputs: what it takes and gives.
            known: values on the way whose shapes it tells.
        """
        graph = helper.make_graph(
            self._nodes, name, inputs, outputs, self._constants, value_info=known
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model)
        return model


def _ordered(weights: np.ndarray, places: tuple[int, ...]) -> np.ndarray:
    """Columns of gates `[N, G*H]`, the gates taken from these places in turn."""
    parts = np.split(weights, len(places), axis=1)
    return np.concatenate([parts[place] for place in places], axis=1)
