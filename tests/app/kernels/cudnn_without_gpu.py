"""cuDNN's kernel without a GPU: all of it but the call, on the CPU's devices."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from app.kernels.cudnn import CudnnRunner
from app.kernels.tensorflow_devices import devices, set_up, short
from app.manifest import Manifest, verified_manifest
from tests.support.cudnn_in_numpy import FakeCudnn, fake_cudnn

HERE = ("CPU:0",)


def cudnn_on_host(
    folder: Path, manifest: Manifest, here: tuple[str, ...] = HERE
) -> tuple[CudnnRunner, FakeCudnn]:
    """A runner, and what stands for cuDNN in it."""
    with pytest.MonkeyPatch.context() as patch:
        fake = fake_cudnn(patch)
        return CudnnRunner(folder, manifest, here=here), fake


class Split(NamedTuple):
    """A model on several devices of a CPU.

    Attributes:
        devices: of each layer, as the runner says.
        calls: of each call of cuDNN, as the graph says.
        variables: of each layer's packed weights.
        results: of `run`.
    """

    devices: tuple[str, ...]
    calls: list[str]
    variables: list[str]
    results: tuple[np.ndarray, np.ndarray]


def split(folder: Path, count: int, *arguments: Any) -> Split:
    """Runs in a process of its own: TensorFlow can be split only when it starts."""
    set_up(count)
    here = tuple(devices())
    manifest = verified_manifest(folder)
    # The call itself can be put into a graph anywhere.
    graph = CudnnRunner(folder, manifest, here=here)._graph
    operations = graph.call.graph.get_operations()
    calls = [op.device for op in operations if op.type == "CudnnRNNV3"]
    layers = [layer.params.device for layer in graph._layers]
    runner, _ = cudnn_on_host(folder, manifest, here)
    runner.set_limits(8, 16)
    results = runner.run(*arguments)
    return Split(runner.devices, [short(c) for c in calls], [short(v) for v in layers], results)
