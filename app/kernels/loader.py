"""`KernelLoader`: takes the kernel of a model, and checks it by the manifest's probe.

On a processor `auto` takes `chunk.onnx`, and nothing here imports TensorFlow; beside an accelerator
`accelerator.py` says which. Kernels' libraries are large: each is imported where it runs.
"""

import fcntl
import logging
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from app.engine.runner_interface import ModelRunner, most_rows
from app.errors import ModelRefused
from app.kernels.probe import check_probe
from app.kernels.runner_setup import RunnerSetup, without_chunk
from app.manifest import Manifest
from app.settings import KernelName, RunnerChoice, accelerator_present

if TYPE_CHECKING:
    from app.kernels.accelerator import Comparison

logger = logging.getLogger(__name__)


class KernelLoader:
    """A `RunnerLoader`.

    Args:
        wanted: a kernel, or `auto`.
        max_rows: most rows of a chunk; 0 for what the model's devices are given.
        max_steps: most time steps of a chunk.
        home: a folder that the service's workers share.
        logical_devices: into how many the CPU is split. Only TensorFlow can use more than one.
        tensor_float_32: whether cuDNN may round to 10 bits.
        idle_cores: of so many cores, how many nobody computes on, beside the caller's; None where
            the caller's is all there is.
        computed: is called after each chunk where idle cores may be used.
    """

    def __init__(
        self,
        wanted: RunnerChoice,
        max_rows: int,
        max_steps: int,
        home: Path,
        logical_devices: int = 1,
        tensor_float_32: bool = False,
        idle_cores: Callable[[int], int] | None = None,
        computed: Callable[[], None] = lambda: None,
    ) -> None:
        self._wanted: RunnerChoice = wanted
        if wanted == "auto" and logical_devices > 1:
            self._wanted = "tensorflow"
        self._home = home
        self._setup = RunnerSetup(
            max_rows, max_steps, logical_devices, tensor_float_32, idle_cores, computed
        )

    def __call__(self, folder: Path, manifest: Manifest) -> ModelRunner:
        """See `RunnerLoader`."""
        try:
            runner = self._load(folder, manifest)
        except ModuleNotFoundError as error:
            raise ModelRefused(
                f"{folder} needs {error.name}, which is not installed here: it is in "
                f"requirements-serve.txt{without_chunk(folder, manifest)}"
            ) from error
        logger.info("runs on %s", runner.kernel)
        setup = self._setup
        rows = setup.max_rows or most_rows(runner.devices)
        runner.set_limits(rows, setup.max_steps)
        rounds = runner.kernel == "bfloat16" or (runner.kernel == "cudnn" and setup.tensor_float_32)
        check_probe(runner, manifest, rows, setup.max_steps, rounds)
        return runner

    def _load(self, folder: Path, manifest: Manifest) -> ModelRunner:
        if self._wanted != "auto":
            return self._named(self._wanted, folder, manifest)
        if accelerator_present() and _has_gpu():
            return self._on_accelerator(folder, manifest)
        if told := without_chunk(folder, manifest):
            logger.warning("TensorFlow runs %s%s", folder, told)
            return self._named("tensorflow", folder, manifest)
        return self._named("onnxruntime", folder, manifest)

    def _named(self, name: KernelName, folder: Path, manifest: Manifest) -> ModelRunner:
        # Each imports a large library.
        runner: ModelRunner = import_module(f"app.kernels.runners.{name}").load(
            folder, manifest, self._setup
        )
        return runner

    def _on_accelerator(self, folder: Path, manifest: Manifest) -> ModelRunner:
        """cuDNN or TensorFlow: the first worker compares them, and all others take the same, since
        two kernels answer a little differently."""
        # Not by its number: a folder that was removed may come again with other weights.
        with (self._home / f"kernel-{manifest.checksum}").open("a+") as taken:
            fcntl.flock(taken, fcntl.LOCK_EX)
            taken.seek(0)
            name = taken.read()
            if name == "":
                runner = self._compared(folder, manifest).faster()
                taken.write(runner.kernel)
                return runner
            if name == "tensorflow":
                return self._named("tensorflow", folder, manifest)
            from app.kernels.cudnn import CudnnRunner

            try:
                return CudnnRunner(folder, manifest, self._setup.tensor_float_32)
            except ModelRefused:
                # A GPU that has vanished, or that others have filled: the next one compares anew.
                taken.truncate(0)
                raise

    def _compared(self, folder: Path, manifest: Manifest) -> "Comparison":
        from app.kernels.accelerator import Comparison

        setup = self._setup
        return Comparison(folder, manifest, setup.max_rows, setup.max_steps, setup.tensor_float_32)


def _has_gpu() -> bool:
    """Whether TensorFlow sees a GPU where there is a driver; the log tells why if it does not."""
    try:
        # Here, since it imports TensorFlow.
        from app.kernels.tensorflow_devices import gpus, no_gpu
    except ModuleNotFoundError:
        logger.warning("there is a driver, but not TensorFlow, which would use the accelerator")
        return False
    if not gpus():
        logger.warning("%s", no_gpu())
        return False
    return True
