"""Puts the layers of a SavedModel on the devices of this machine.

The device of every variable and operation stands in the SavedModel as text. Where the devices it
was trained on are here, it is loaded as it is. Where they are not, TensorFlow would put everything
that it cannot place on one device; instead a copy of the graph is loaded that names the devices
there are. The weights are not copied.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

GRAPH = "saved_model.pb"
DEVICE = re.compile(r"(?<=/device:)[A-Z]+:\d+")


def assign(trained: Sequence[str], here: Sequence[str]) -> dict[str, str]:
    """Where what was on each device goes.

    Args:
        trained: the device of each layer in training, such as `GPU:0`.
        here: the devices of this machine.

    Returns:
        A device of `here` for each of `trained`: itself where all of them are here, else
        neighbouring devices together, in their order, on the accelerators or where there is none
        on the CPU's devices. A model that was wholly on one CPU device was so for want of better.
    """
    wanted = list(dict.fromkeys(trained))
    better = [device for device in here if not device.startswith("CPU")] or list(here)
    if set(wanted) <= set(here) and (len(wanted) > 1 or wanted[0] in better):
        return {device: device for device in wanted}
    count = max(len(wanted), len(better))
    return {device: better[index * len(better) // count] for index, device in enumerate(wanted)}


@contextmanager
def placed(folder: Path, assigned: Mapping[str, str]) -> Iterator[Path]:
    """A folder to load the SavedModel from, its devices replaced as `assign` says."""
    if all(before == after for before, after in assigned.items()):
        yield folder
        return
    graph = SavedModel()
    graph.ParseFromString((folder / GRAPH).read_bytes())
    _replace_devices(graph, assigned)
    with tempfile.TemporaryDirectory(prefix="unroll-placed-") as name:
        copy = Path(name)
        (copy / GRAPH).write_bytes(graph.SerializeToString())
        (copy / "variables").symlink_to((folder / "variables").resolve())
        yield copy


def _replace_devices(graph: SavedModel, assigned: Mapping[str, str]) -> None:
    def replaced(text: str) -> str:
        return DEVICE.sub(lambda found: assigned.get(found[0], found[0]), text)

    for meta in graph.meta_graphs:
        functions = meta.graph_def.library.function
        nodes = [*meta.graph_def.node, *(n for f in functions for n in f.node_def)]
        for node in nodes:
            node.device = replaced(node.device)
        for thing in meta.object_graph_def.nodes:
            if thing.HasField("variable"):
                thing.variable.device = replaced(thing.variable.device)
