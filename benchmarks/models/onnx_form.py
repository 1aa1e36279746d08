"""The benchmark model as the ONNX graph that a peer would export: no more nodes than it needs.

Unroll's own graph has its transforms besides; peers are spared them.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS

OPSET = 17


def build_graph(units: int, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The graph.

    Args:
        units: of each layer.
        weights: as in `weights.npz`; gates in Keras' order.

    Returns:
        `sequences [B,T,F]`, `lengths [B]`, `h_<i>` and `c_<i>` `[B,H]` -> `outputs [B,T,1]`,
        `next_h_<i>` and `next_c_<i>`. Outputs beyond a row's length mean nothing.
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {"first": np.array([0]), "second": np.array([1])}
    nodes.append(helper.make_node("Transpose", ["sequences"], ["x_0"], perm=[1, 0, 2]))
    for index in range(NUM_LAYERS):
        _add_layer(nodes, constants, index, units, weights)
    constants["head"], constants["head_bias"] = weights["head/kernel"], weights["head/bias"]
    nodes += [
        helper.make_node("Transpose", [f"x_{NUM_LAYERS}"], ["top"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["top", "head"], ["product"]),
        helper.make_node("Add", ["product", "head_bias"], ["outputs"]),
    ]
    names = [f"{part}_{i}" for i in range(NUM_LAYERS) for part in ("h", "c")]
    graph = helper.make_graph(
        nodes,
        "lstm",
        [
            _tensor("sequences", ["B", "T", NUM_FEATURES]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]),
            *(_tensor(name, ["B", units]) for name in names),
        ],
        [
            _tensor("outputs", ["B", "T", 1]),
            *(_tensor(f"next_{name}", ["B", units]) for name in names),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.checker.check_model(model)
    return model


def _tensor(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _add_layer(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    index: int,
    units: int,
    weights: dict[str, np.ndarray],
) -> None:
    def onnx_order(gates: np.ndarray) -> np.ndarray:
        # Keras: i, f, c, o along the columns. ONNX: i, o, f, c along the rows.
        i, f, c, o = np.split(gates, 4, axis=-1)
        return np.ascontiguousarray(np.concatenate([i, o, f, c], axis=-1).T[np.newaxis])

    bias = weights[f"layer_{index}/bias"]
    constants[f"w_{index}"] = onnx_order(weights[f"layer_{index}/kernel"])
    constants[f"r_{index}"] = onnx_order(weights[f"layer_{index}/recurrent_kernel"])
    constants[f"b_{index}"] = np.concatenate([onnx_order(bias), np.zeros_like(bias)[np.newaxis]], 1)
    for part in ("h", "c"):
        name = f"{part}_{index}"
        nodes.append(helper.make_node("Unsqueeze", [name, "first"], [f"initial_{name}"]))
    nodes.append(
        helper.make_node(
            "LSTM",
            [
                *(f"{name}_{index}" for name in ("x", "w", "r", "b")),
                "lengths",
                *(f"initial_{part}_{index}" for part in ("h", "c")),
            ],
            [f"{name}_{index}" for name in ("y", "last_h", "last_c")],
            hidden_size=units,
        )
    )
    nodes.append(helper.make_node("Squeeze", [f"y_{index}", "second"], [f"x_{index + 1}"]))
    for part in ("h", "c"):
        name = f"{part}_{index}"
        nodes.append(helper.make_node("Squeeze", [f"last_{name}", "first"], [f"next_{name}"]))
