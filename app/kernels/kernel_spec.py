"""`Kernel`: what can run a model instead of TensorFlow, as selection and loader see it.

A kernel is a name in `app/settings.py` and a module of that name here, whose `KERNEL` says how it
is prepared, loaded and compared. Kernels' libraries are large: a module is imported when its
kernel is asked for.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from app.engine.model_runner import ModelRunner
from app.manifest import Manifest
from app.settings import KernelName

# What rows of a probe have: random lengths; the same; random ones and none at all.
Lengths = Literal["ragged", "equal", "some zero"]
Graphs = tuple[bytes, ...]


@dataclass(frozen=True)
class Variant:
    """One precision that a kernel computes in.

    Attributes:
        title: as the log has it.
        load: makes the runner from the graphs, the folder and the manifest.
        factor_bits: significant bits that factors of products are rounded to; the log tells the
            error of that. None for float32, which has to agree with TensorFlow.
        lengths: of the probes on which it has to agree.
    """

    title: str
    load: Callable[[Graphs, Path, Manifest], ModelRunner]
    factor_bits: int | None = None
    lengths: tuple[Lengths, ...] = ("ragged",)


def _no_graphs(folder: Path, manifest: Manifest) -> Graphs:
    return ()


@dataclass(frozen=True)
class Kernel:
    """A kernel.

    Attributes:
        variant: as it runs by default.
        prepare: makes the graphs that it runs if it does not run the folder itself; called once,
            when the kernel is chosen.
        on_accelerator: whether it runs on GPUs; else on the processor.
        automatic: whether `auto` may take it.
        rounded: a faster variant that rounds, where the settings allow TensorFloat-32.
    """

    variant: Variant
    prepare: Callable[[Path, Manifest], Graphs] = _no_graphs
    on_accelerator: bool = False
    automatic: bool = True
    rounded: Variant | None = None

    def variants(self, tensor_float_32: bool) -> tuple[Variant, ...]:
        """The variants that are tried in turn; the last is the one that serves."""
        if tensor_float_32 and self.rounded is not None:
            return self.variant, self.rounded
        return (self.variant,)


def kernel_named(name: KernelName) -> Kernel:
    """The kernel of this name, any but TensorFlow, which is what kernels are compared with."""
    found: Kernel = importlib.import_module(f"app.kernels.{name}").KERNEL
    return found


def all_kernels() -> Iterator[tuple[KernelName, Kernel]]:
    """Every kernel but TensorFlow, by its name."""
    for name in get_args(KernelName):
        if name != "tensorflow":
            yield name, kernel_named(name)
