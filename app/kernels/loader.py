"""Loads the kernel of a model. The first worker that loads the model has the kernel chosen, for all
workers, by a process of its own: `selection.py`."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.engine.model_runner import ModelRunner
from app.errors import ModelRefused
from app.kernels.kernel_spec import kernel_named
from app.kernels.selected_kernel import Choice
from app.manifest import Manifest
from app.settings import RunnerChoice

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]


class KernelLoader:
    """A `RunnerLoader`.

    Args:
        wanted: a kernel, or `auto`.
        max_rows: most rows of a chunk; 0 for what the model's devices are given.
        max_steps: most time steps of a chunk.
        home: a folder that the service's workers share.
        logical_devices: into how many the CPU is split. Only TensorFlow can use more than one.
        tensor_float_32: whether cuDNN may round to 10 bits.
    """

    def __init__(
        self,
        wanted: RunnerChoice,
        max_rows: int,
        max_steps: int,
        home: Path,
        logical_devices: int = 1,
        tensor_float_32: bool = False,
    ) -> None:
        self._wanted: RunnerChoice = wanted
        if wanted == "auto" and logical_devices > 1:
            self._wanted = "tensorflow"
        self._logical_devices = logical_devices
        self._tensor_float_32 = tensor_float_32
        self._max_rows, self._max_steps = max_rows, max_steps
        self._home = home

    def __call__(self, folder: Path, manifest: Manifest) -> ModelRunner:
        """See `RunnerLoader`."""
        choice = Choice("tensorflow")
        if self._wanted != "tensorflow":
            choice = self._chosen(folder, manifest)
        if choice.kernel == "refused":
            raise ModelRefused(choice.reason)
        logger.info("runs on %s", choice.kernel)
        if choice.kernel != "tensorflow":
            variant = kernel_named(choice.kernel).variants(self._tensor_float_32)[-1]
            try:
                return variant.load(choice.graphs, folder, manifest)
            except ModelRefused:
                # What was chosen is no more: a GPU that has vanished, or that others have filled.
                # The next who asks has the choice made again.
                self._forget(manifest)
                raise
        # Imported only where it runs: it is large.
        from app.kernels.tensorflow import TensorFlowRunner

        return TensorFlowRunner(folder, manifest, self._logical_devices)

    def _chosen(self, folder: Path, manifest: Manifest) -> Choice:
        place = self._place(manifest)
        with self._locked():
            if (choice := Choice.read(place)) is None:
                how = self._choose(folder, manifest.checksum, place)
                choice = Choice.read(place) or self._without(how, place)
            if not choice.lasting:
                # The next who asks has it tried again.
                Choice.forget(place)
        return choice

    def _forget(self, manifest: Manifest) -> None:
        with self._locked():
            Choice.forget(self._place(manifest))

    def _place(self, manifest: Manifest) -> Path:
        # Not by its number: a folder that was removed may come again with other weights.
        return self._home / f"kernel-{manifest.checksum}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._home / "choose.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _without(self, how: str, place: Path) -> Choice:
        """What is done when nothing was chosen.

        Raises:
            ModelRefused: the kernel was named. The next who asks has it tried again.
        """
        if self._wanted != "auto":
            raise ModelRefused(
                f"UNROLL_RUNNER={self._wanted}: the process that tries this kernel {how}; "
                "the log may say more"
            )
        logger.warning("the process that chooses the kernel %s: TensorFlow runs", how)
        # For all workers: two kernels would answer a little differently.
        choice = Choice("tensorflow")
        choice.write(place)
        return choice

    def _choose(self, folder: Path, checksum: str, place: Path) -> str:
        """Has the choice made; returns how the process ended."""
        command = [sys.executable, "-m", "app.kernels.selection", self._wanted]
        sizes = ["--max-rows", str(self._max_rows), "--max-steps", str(self._max_steps)]
        if self._tensor_float_32:
            sizes.append("--tensor-float-32")
        parent = ["--checksum", checksum, "--parent", str(os.getpid())]
        places = [str(folder.resolve()), str(place.resolve())]
        try:
            status = subprocess.run([*command, *places, *sizes, *parent], cwd=ROOT).returncode
        except OSError as error:
            return f"could not be started ({error.strerror})"
        if status < 0:
            return f"was ended by signal {-status} ({signal.strsignal(-status)})"
        return f"ended with status {status}"
