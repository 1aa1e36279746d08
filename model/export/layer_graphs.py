"""Writes `layer-0.onnx`, ...: `chunk.onnx` in parts, so that cores can compute a layer each.

A part takes its weights from `chunk.onnx`, the file beside it, so they are on disk once.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from model.export.graph_builder import GraphBuilder, Network, tensor
from model.export.manifest import CHUNK, layer_file

# Bytes of a constant that a part takes from the file of the whole; smaller ones it has itself.
LARGE = 1024


def add_layer_graphs(folder: Path, network: Network) -> None:
    """Writes the parts of a network of several layers beside its `chunk.onnx`."""
    whole = (folder / CHUNK).read_bytes()
    for index, graph in enumerate(build_layer_graphs(network)):
        _refer(graph, whole)
        (folder / layer_file(index)).write_bytes(graph.SerializeToString())


def build_layer_graphs(network: Network) -> Iterator[onnx.ModelProto]:
    """A graph for each of several layers, for rows that all have C time steps.

    The lowest takes `sequences [S,C,F]`, each other one `below [C,S,H]`: what the layer below gives
    as `above`. The top one takes `sequences` too, to which it adds changes, and gives
    `outputs [S,C,O]`. States are as the operators have them, which takes least time: `h [1,S,H]`
    and `c` come in, `next_h` and `next_c` out.

    Raises:
        ValueError: ONNX has no such cell.
    """
    sequences = tensor("sequences", ["S", "C", len(network.features)])
    order: list[int] = []
    for index, layer in enumerate(network.layers):
        builder = GraphBuilder()
        if index == 0:
            encoded, order = builder.encode(network)
            taken, below = [sequences], builder.time_first(encoded)
        else:
            taken, below = [tensor("below", ["C", "S", network.layers[index - 1].units])], "below"
        states = list(layer.spec.states)
        weights = network.layer_weights(index, order)
        above, final = builder.layer(layer, weights, below, "", states)
        if index == len(network.layers) - 1:
            taken.append(sequences)
            builder.named("outputs", builder.decode(builder.batch_first(above), network))
            given = tensor("outputs", ["S", "C", len(network.outputs)])
        else:
            builder.named("above", above)
            given = tensor("above", ["C", "S", layer.units])
        after = [builder.named(f"next_{n}", made) for n, made in zip(states, final, strict=True)]
        taken += [tensor(name, [1, "S", layer.units]) for name in states]
        made = [tensor(name, [1, "S", layer.units]) for name in after]
        yield builder.finish(f"layer_{index}", taken, [given, *made])


def _refer(layer: onnx.ModelProto, whole: bytes) -> None:
    """Has a part take its weights from the bytes of `chunk.onnx`."""
    for weights in layer.graph.initializer:
        values = weights.raw_data
        if len(values) < LARGE:
            continue
        # Wherever the same bytes are, they are the same weights.
        place = whole.find(values)
        assert place >= 0, "this is a bug: the whole has other weights than its parts"
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in {"location": CHUNK, "offset": place, "length": len(values)}.items():
            weights.external_data.add(key=key, value=str(value))


def run_layers(
    folder: Path, network: Network
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The parts one after the other, in ONNX Runtime: `sequences` and `state` -> `outputs` and
    `next_state`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    files = [folder / layer_file(index) for index in range(len(network.layers))]
    sessions = [
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for file in files
    ]
    cuts = np.cumsum(network.state_sizes)[:-1]

    def run(sequences: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        given, final = sequences, list[np.ndarray]()
        before = np.split(state[np.newaxis], cuts, axis=2)
        for session, layer in zip(sessions, network.layers, strict=True):
            known = {"sequences": sequences, "below": given}
            known |= {name: before.pop(0) for name in layer.spec.states}
            taken = {each.name: known[each.name] for each in session.get_inputs()}
            given, *after = session.run(None, taken)
            final += after
        return given, np.concatenate(final, axis=2)[0]

    return run
