"""Rewrites `chunk.onnx` for libraries whose recurrent operators do not heed lengths, and cuts it.

An input beside the others tells each LSTM what is padding, so that its c is held, and h is taken
from each row's last time step. Of rows without time steps `chunk.onnx` keeps the state by itself.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

# What passes between the parts of the graph, float32 `[S,C,I]` and `[S,C,H]`.
ENCODED, TOP = "encoded", "top"
OPERATORS = ("LSTM", "GRU", "RNN")
# The inputs of a recurrent operator that are of interest, by their places.
X, W, LENGTHS = 0, 1, 4
# What padding adds to the gates i, o, f, g of an LSTM, in ONNX's order: sigmoid gives 0 for i and 1
# for f, so c stays as it is.
HOLD = (-1e4, 0.0, 1e4, 0.0)
# The inputs of an LSTM, this one among them, are made a multiple of so many: of an odd number,
# products of bfloat16 are five times slower.
BLOCK = 32

Parts = tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]


def without_lengths(serialized: bytes) -> onnx.ModelProto:
    """The graph of `chunk.onnx` with operators that are not given lengths."""
    model = onnx.load_model_from_string(serialized)
    writer = _Writer(model.graph)
    for node in list(model.graph.node):
        if node.op_type in OPERATORS:
            writer.recurrent(node)
        else:
            writer.keep(node)
    del model.graph.node[:]
    model.graph.node.extend(writer.nodes)
    onnx.checker.check_model(model)
    return model


def cut_graph(graph: onnx.ModelProto) -> Parts:
    """The graph in parts: `sequences` -> `encoded`; `encoded`, `lengths`, `state` -> `top`,
    `next_state`; `top`, `sequences`, `lengths` -> `outputs`."""
    cut = Extractor(graph).extract_model
    return (
        cut(["sequences"], [ENCODED]),
        cut([ENCODED, "lengths", "state"], [TOP, "next_state"]),
        cut([TOP, "sequences", "lengths"], ["outputs"]),
    )


class _Writer:
    """Collects nodes; what it adds is named by number."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._graph = graph
        # Which time steps are padding, as a truth and as a number, `[C,S,1]`, and which are last.
        self._is_padding = self._padding = self._last = ""

    def keep(self, node: onnx.NodeProto) -> None:
        """A node as it is."""
        self.nodes.append(node)
        if ENCODED in node.output:
            self._mark_padding()

    def recurrent(self, node: onnx.NodeProto) -> None:
        """A recurrent operator without its lengths."""
        node.input[LENGTHS] = ""
        if node.op_type == "LSTM":
            self._hold(node)
        # Its first final state is h, `[1,S,H]`.
        outputs, final = node.output[0], node.output[1]
        node.output[1] = f"{final}_of_the_chunk"
        self.nodes.append(node)
        squeezed = self._one("Squeeze", [outputs, self._constant([1], np.int64)])
        last = self._one("GatherND", [squeezed, self._last])
        axis = self._constant([0], np.int64)
        self.nodes.append(helper.make_node("Unsqueeze", [last, axis], [final]))

    def _hold(self, node: onnx.NodeProto) -> None:
        """Has padding hold an LSTM's c: a further input, with weights of its own."""
        (weights,) = (each for each in self._graph.initializer if each.name == node.input[W])
        kernel = numpy_helper.to_array(weights)  # [1, 4*H, I]
        _, gates, inputs = kernel.shape
        width = BLOCK - inputs % BLOCK
        more = np.zeros((1, gates, width), np.float32)
        more[0, :, 0] = np.repeat(HOLD, gates // len(HOLD))
        weights.CopyFrom(numpy_helper.from_array(np.concatenate([kernel, more], 2), weights.name))
        flag = self._one("Mul", [self._padding, self._constant([1.0] + [0.0] * (width - 1))])
        # What is there could be larger than what holds: a layer of ReLUs runs on through padding.
        known = self._one("Where", [self._is_padding, self._constant(0.0), node.input[X]])
        node.input[X] = self._one("Concat", [known, flag], axis=2)

    def _mark_padding(self) -> None:
        axis = self._constant([1], np.int64)
        times = self._one("Unsqueeze", [self._count(ENCODED, 1), axis])
        lengths = self._one("Unsqueeze", ["lengths", self._constant([1, 2], np.int64)])
        invalid = self._one("Not", [self._one("Less", [times, lengths])])
        self._is_padding = self._one("Transpose", [invalid], perm=[1, 0, 2])
        self._padding = self._one("Cast", [self._is_padding], to=TensorProto.FLOAT)
        before = self._one("Sub", ["lengths", self._constant(1, np.int32)])
        lasts = self._one("Max", [before, self._constant(0, np.int32)])
        pairs = [self._one("Unsqueeze", [p, axis]) for p in (lasts, self._count("lengths", 0))]
        # int64 `[S,2]`: time step and row.
        self._last = self._one("Cast", [self._one("Concat", pairs, axis=1)], to=TensorProto.INT64)

    def _count(self, like: str, axis: int) -> str:
        """0, 1, 2, ... along an axis of `like`, int32."""
        size = self._one("Gather", [self._one("Shape", [like]), self._constant(axis, np.int64)])
        end = self._one("Cast", [size], to=TensorProto.INT32)
        return self._one("Range", [self._constant(0, np.int32), end, self._constant(1, np.int32)])

    def _constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"lengthless_constant_{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def _one(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"lengthless_{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name
