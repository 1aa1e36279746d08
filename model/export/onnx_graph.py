"""Builds the ONNX graph that computes what a SavedModel's `chunk` computes: `chunk.onnx`.

From the transforms, the layers and their weights. Rows and time steps of any number are one and the
same graph.
"""

import numpy as np
import onnx
from onnx import TensorProto

from model.export.graph_builder import GraphBuilder, Network, tensor

# What passes between the parts of the graph, float32 `[S,C,I]` and `[S,C,H]`: by these names
# whoever loads it can cut it.
ENCODED, TOP = "encoded", "top"


def build_graph(network: Network) -> onnx.ModelProto:
    """The graph: `sequences [S,C,F]`, `lengths [S]`, `state [S, sum of H]` -> `outputs [S,C,O]`,
    `next_state`.

    Raises:
        ValueError: ONNX has no such cell.
    """
    builder = GraphBuilder()
    encoded, order = builder.encode(network)
    top = builder.time_first(builder.named(ENCODED, encoded))
    states = builder.split_state(network.state_sizes)
    final: list[str] = []
    for index, layer in enumerate(network.layers):
        initial = [states.pop(0) for _ in layer.spec.states]
        weights = network.layer_weights(index, order)
        top, made = builder.layer(layer, weights, top, "lengths", initial)
        final += made
    # A row without time steps keeps its state, which the operators forget.
    moves = builder.one("Greater", ["lengths", builder.constant(0, np.int32)])
    moves = builder.one("Unsqueeze", [moves, builder.constant([1], np.int64)])
    builder.add_named("Where", [moves, builder.join_state(final), "state"], "next_state")
    decoded = builder.decode(builder.named(TOP, builder.batch_first(top)), network)
    # Zero beyond each row's length.
    builder.add_named("Where", [builder.valid(), decoded, builder.constant(0.0)], "outputs")
    size, features = sum(network.state_sizes), len(network.features)
    return builder.finish(
        "chunk",
        [
            tensor("sequences", ["S", "C", features]),
            tensor("lengths", ["S"], TensorProto.INT32),
            tensor("state", ["S", size]),
        ],
        [tensor("outputs", ["S", "C", len(network.outputs)]), tensor("next_state", ["S", size])],
        [
            tensor(ENCODED, ["S", "C", len(order)]),
            tensor(TOP, ["S", "C", network.layers[-1].units]),
        ],
    )
