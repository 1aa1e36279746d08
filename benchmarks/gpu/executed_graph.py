"""The graph that TensorFlow partitioned and executed: what ran, and where."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tensorflow.python.eager import context

SHORT = re.compile(r".*device:")
FORWARD, BACKWARD = "CudnnRNNV3", "CudnnRNNBackpropV3"


class Node(NamedTuple):
    """An operation, and the device it ran on, such as `GPU:0`."""

    name: str
    op: str
    device: str


def short(device: str) -> str:
    """`GPU:0` of a device's full name."""
    return SHORT.sub("", device)


def executed(call: Callable[[], Any]) -> list[Node]:
    """The nodes of all graphs that a call executed."""
    context.context().enable_run_metadata()
    context.context().enable_graph_collection()
    try:
        call()
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_run_metadata()
    return [
        Node(node.name, node.op, short(node.device))
        for function in metadata.function_graphs
        for partition in function.partition_graphs
        for node in partition.node
    ]


def cudnn_calls(nodes: list[Node]) -> dict[str, int]:
    """How many of cuDNN's calls are among them, forward and backward."""
    return {
        "forward": sum(node.op == FORWARD for node in nodes),
        "backward": sum(node.op == BACKWARD for node in nodes),
    }
