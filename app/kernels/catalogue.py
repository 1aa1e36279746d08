"""The kernels that can run instead of TensorFlow: how each is made, and what is asked of it.

`choose.py` compares them, `load.py` loads the one that was chosen. Their libraries are large, so
each is imported only where it is used.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.engine.runner import ModelRunner
from app.kernels.choice import KernelName
from app.manifest import Manifest

# What rows of a probe have: random lengths; the same; random ones and none at all.
Lengths = Literal["ragged", "equal", "some zero"]
Graphs = tuple[bytes, ...]


@dataclass(frozen=True)
class Form:
    """One way to run a kernel.

    Attributes:
        title: as the log has it.
        load: makes the runner from the graphs, the folder and the manifest.
        rounds_to: bits that it rounds factors to; None where it computes in float32 and has to
            agree with TensorFlow. Of another one the error is told.
        lengths: of the probes on which it has to agree.
    """

    title: str
    load: Callable[[Graphs, Path, Manifest], ModelRunner]
    rounds_to: int | None = None
    lengths: tuple[Lengths, ...] = ("ragged",)


def _no_graphs(folder: Path, manifest: Manifest) -> Graphs:
    return ()


@dataclass(frozen=True)
class Kernel:
    """A kernel by its name in `UNROLL_RUNNER`.

    Attributes:
        form: how it runs.
        prepare: what it runs if not the folder itself; made once, when it is chosen.
        on_accelerator: where it runs; else on the processor.
        automatic: whether `auto` may take it.
        faster_form: a form that rounds, where the settings allow it.
    """

    form: Form
    prepare: Callable[[Path, Manifest], Graphs] = _no_graphs
    on_accelerator: bool = False
    automatic: bool = True
    faster_form: Form | None = None

    def forms(self, tensor_float_32: bool) -> tuple[Form, ...]:
        """The forms that are tried in turn; the last is the one that serves."""
        if tensor_float_32 and self.faster_form is not None:
            return self.form, self.faster_form
        return (self.form,)


def _build_graph(folder: Path, manifest: Manifest) -> Graphs:
    from app.kernels.onnx_graph import build_graph

    return (build_graph(folder, manifest).SerializeToString(),)


def _build_parts(folder: Path, manifest: Manifest) -> Graphs:
    from app.kernels.onnx_graph import build_graph, cut_graph

    parts = cut_graph(build_graph(folder, manifest, take_lengths=False))
    return tuple(part.SerializeToString() for part in parts)


def _load_onnxruntime(graphs: Graphs, folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.onnxruntime import OnnxRuntimeRunner

    (graph,) = graphs
    return OnnxRuntimeRunner(graph, manifest)


def _load_bfloat16(graphs: Graphs, folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.bfloat16 import Bfloat16Runner

    return Bfloat16Runner(graphs, manifest)


def _load_cudnn(graphs: Graphs, folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.cudnn import CudnnRunner

    return CudnnRunner(folder, manifest)


def _load_cudnn_in_tensor_float_32(graphs: Graphs, folder: Path, manifest: Manifest) -> ModelRunner:
    from app.kernels.cudnn import CudnnRunner

    return CudnnRunner(folder, manifest, tensor_float_32=True)


KERNELS: Mapping[KernelName, Kernel] = {
    "onnxruntime": Kernel(Form("ONNX Runtime", _load_onnxruntime), _build_graph),
    "bfloat16": Kernel(
        Form("bfloat16", _load_bfloat16, rounds_to=8), _build_parts, automatic=False
    ),
    "cudnn": Kernel(
        # Rows that are all full, and none, are what the call does in another way.
        Form("cuDNN", _load_cudnn, lengths=("ragged", "equal", "some zero")),
        on_accelerator=True,
        faster_form=Form("TensorFloat-32", _load_cudnn_in_tensor_float_32, rounds_to=10),
    ),
}
