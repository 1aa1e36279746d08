"""`RunnerSetup`: what a runner is told of the service beside its model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelRefused
from app.manifest import CHUNK, Manifest


@dataclass(frozen=True)
class RunnerSetup:
    """See the module.

    Attributes:
        max_rows: most rows of a chunk; 0 for what the model's devices are given.
        max_steps: most time steps of a chunk.
        logical_devices: into how many the CPU is split. Only TensorFlow can use more than one.
        tensor_float_32: whether cuDNN may round to 10 bits.
        idle_cores: of so many cores, how many nobody computes on, beside the caller's; None where
            the caller's is all there is.
        computed: is called after each chunk where idle cores may be used.
    """

    max_rows: int
    max_steps: int
    logical_devices: int = 1
    tensor_float_32: bool = False
    idle_cores: Callable[[int], int] | None = None
    computed: Callable[[], None] = lambda: None


def chunk_of(folder: Path, manifest: Manifest, name: str) -> Path:
    """The path of `chunk.onnx`; raises `ModelRefused` where a runner of this name finds none."""
    if told := without_chunk(folder, manifest):
        raise ModelRefused(f"UNROLL_RUNNER={name} cannot run {folder}{told}")
    return folder / CHUNK


def without_chunk(folder: Path, manifest: Manifest) -> str:
    """What to do where there is no `chunk.onnx`; empty where there is."""
    if CHUNK in manifest.files:
        return ""
    return (
        f": its format, {manifest.format}, has no {CHUNK}; python -m model.upgrade {folder} "
        "writes the next version, which has one"
    )
