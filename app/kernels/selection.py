"""Chooses the kernel: TensorFlow, which can run any model, or another one where it is better.

`auto` takes ONNX Runtime on a processor and cuDNN on a GPU, if it agrees with TensorFlow on probe
inputs and measured faster. If it does not, the log says so and TensorFlow runs. A kernel that
rounds is refused only if its outputs are far from TensorFlow's; the log tells how far they are.

The comparison needs TensorFlow, but a service that runs another kernel does not; and the GPU memory
that a comparison takes is free again when its process ends. So it is a command, which `loader.py`
runs once for all workers: `python -m app.kernels.selection --help`.
"""

import argparse
import logging
import os
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np

from app.engine.model_runner import ModelRunner, most_rows, on_accelerator
from app.errors import DeviceFailed, ModelRefused
from app.kernels.column_transforms import OutputColumns
from app.kernels.kernel_spec import Lengths, Variant, all_kernels, kernel_named
from app.kernels.parity import Results, agree
from app.kernels.probe_inputs import probe, probe_state
from app.kernels.selected_kernel import Choice
from app.kernels.tensorflow import TensorFlowRunner
from app.kernels.tensorflow_devices import gpus, no_gpu, refused_failures
from app.kernels.timing import median_seconds
from app.manifest import Manifest, verified_manifest
from app.parent_process import end_with_parent
from app.settings import KernelName, RunnerChoice, accelerator_present

logger = logging.getLogger(__name__)

# Of an output that was rounded, in its standard deviations, and of a state. Rounding gives a few
# hundredths; more is no rounding.
MAX_ERROR = 0.25


class Chooser:
    """Compares the kernels on one model.

    Args:
        folder: verified.
        manifest: of the folder.
        max_rows: most rows of a chunk; 0 for what the devices of the model are given.
        max_steps: most time steps of a chunk.
        tensor_float_32: whether cuDNN may round to 10 bits.

    Raises:
        ModelRefused: TensorFlow cannot load the model.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        max_rows: int,
        max_steps: int,
        tensor_float_32: bool = False,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._tensor_float_32 = tensor_float_32
        self._reference = TensorFlowRunner(folder, manifest)
        self._on_accelerator = on_accelerator(self._reference.devices)
        self._max_rows, self._max_steps = max_rows or most_rows(self._reference.devices), max_steps
        self._reference.set_limits(self._max_rows, max_steps)
        # What the reference computed: not again after a kernel has changed how TensorFlow rounds.
        self._expected = cache(self._compute_expected)

    def choose(self, wanted: RunnerChoice) -> Choice:
        """The kernel to use.

        Raises:
            ModelRefused: the one that is wanted does not compute what TensorFlow does.
        """
        if wanted == "tensorflow":
            return Choice("tensorflow")
        if wanted != "auto":
            return self._tried(wanted)[0]
        if accelerator_present() and not gpus():
            logger.warning("%s", no_gpu())
        for name, kernel in all_kernels():
            if kernel.automatic and kernel.on_accelerator == self._on_accelerator:
                try:
                    if (choice := self._if_faster(name)) is not None:
                        return choice
                except Exception as error:
                    # Its failure costs nobody the model: TensorFlow can run any.
                    reason = f"{type(error).__name__}: {error}"
                    logger.warning("%s is not used: %s", kernel.variant.title, reason)
        return Choice("tensorflow")

    def _tried(self, name: KernelName) -> tuple[Choice, ModelRunner]:
        """A kernel that computes what TensorFlow does, as it will serve."""
        kernel = kernel_named(name)
        with refused_failures(list(self._reference.devices)):
            graphs = kernel.prepare(self._folder, self._manifest)
            for variant in kernel.variants(self._tensor_float_32):
                # Before it is loaded, which may change how TensorFlow rounds.
                self._expected("ragged")
                candidate = variant.load(graphs, self._folder, self._manifest)
                candidate.set_limits(self._max_rows, self._max_steps)
                if variant.factor_bits is None:
                    self._check(variant, candidate)
                else:
                    self._check_error(variant, candidate)
        return Choice(name, graphs), candidate

    def _check(self, variant: Variant, candidate: ModelRunner) -> None:
        """Whether it agrees with TensorFlow but for float32's rounding."""
        for lengths in variant.lengths:
            probe = self._probe(self._max_rows, lengths)
            ours, our_state = candidate.run(*probe)
            theirs, their_state = self._expected(lengths)
            valid = np.arange(self._max_steps) < probe[1][:, np.newaxis]
            if not agree((ours[valid], our_state), (theirs[valid], their_state), self._manifest):
                raise ModelRefused(
                    f"{variant.title} and TensorFlow disagree on probe inputs ({lengths} lengths)"
                )

    def _check_error(self, variant: Variant, candidate: ModelRunner) -> None:
        """Tells how far it is from float32, and refuses what is no rounding."""
        of_outputs, of_states = self._errors(candidate)
        logger.info(
            "%s: outputs differ from those of float32 by up to %.4f of their standard "
            "deviation, over %d time steps",
            variant.title,
            of_outputs,
            self._max_steps,
        )
        for what, error, scale in (
            ("outputs", of_outputs, "standard deviation"),
            ("states", of_states, "size"),
        ):
            # Not `error > MAX_ERROR`: it may be NaN.
            if not error <= MAX_ERROR:
                raise ModelRefused(
                    f"in {variant.title} its {what} differ by {error:.3g} of their {scale} from "
                    f"those of float32; the limit is {MAX_ERROR}"
                )

    def _errors(self, candidate: ModelRunner) -> tuple[float, float]:
        """The largest difference from float32 of an output, in its standard deviations, and of a
        state, where that is above 1 as a part of it."""
        ours, our_state = candidate.run(*self._probe(self._max_rows, "ragged"))
        theirs, their_state = self._expected("ragged")
        columns = OutputColumns.of(self._manifest.outputs, self._manifest.features)
        # Beyond a row's length both are zero.
        of_outputs = np.abs(ours - theirs) / columns.std
        of_states = np.abs(our_state - their_state) / np.maximum(1.0, np.abs(their_state))
        return float(np.max(of_outputs)), float(np.max(of_states))

    def _if_faster(self, name: KernelName) -> Choice | None:
        # The two ends: a lone caller, and a full chunk.
        asked = {rows: self._probe(rows, "ragged") for rows in sorted({1, self._max_rows})}
        theirs = {rows: median_seconds(self._reference, *asked[rows]) for rows in asked}
        choice, candidate = self._tried(name)
        product = 1.0
        for rows, arguments in asked.items():
            ratio = theirs[rows] / median_seconds(candidate, *arguments)
            title = kernel_named(name).variant.title
            logger.info("%d rows: %s is %.2f times as fast as TensorFlow", rows, title, ratio)
            product *= ratio
        return choice if product > 1 else None

    def _compute_expected(self, lengths: Lengths) -> Results:
        return self._reference.run(*self._probe(self._max_rows, lengths))

    def _probe(self, rows: int, kind: Lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs, lengths = probe(self._manifest, rows, self._max_steps)
        if kind == "equal":
            lengths[:] = self._max_steps
        elif kind == "some zero":
            lengths[::2] = 0
        return inputs, lengths, probe_state(rows, self._reference.state_size)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m app.kernels.selection", description="Choose the kernel for a model."
    )
    parser.add_argument("wanted", choices=get_args(RunnerChoice))
    parser.add_argument("folder", type=Path, help="of the exported model")
    parser.add_argument("out", type=Path, help="folder that the choice is written to")
    parser.add_argument("--max-rows", type=int, required=True, help="0: as its devices are given")
    parser.add_argument("--max-steps", type=int, required=True)
    parser.add_argument("--tensor-float-32", action="store_true", help="cuDNN may round to it")
    parser.add_argument("--checksum", default="", help="that the folder's manifest has to have")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="ends when it is gone")
    given = parser.parse_args()
    end_with_parent(given.parent)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    choose(given).write(given.out)
    return 0


def choose(given: argparse.Namespace) -> Choice:
    """The kernel, or why there is none."""
    lasting = False
    try:
        manifest = verified_manifest(given.folder)
        if given.checksum not in ("", manifest.checksum):
            raise ModelRefused(f"{given.folder} was replaced while it was loaded")
        chooser = Chooser(
            given.folder, manifest, given.max_rows, given.max_steps, given.tensor_float_32
        )
        # What was before may pass: a file that is not there yet, memory that others have.
        lasting = True
        return chooser.choose(given.wanted)
    except DeviceFailed as error:
        return Choice("refused", reason=str(error), lasting=False)
    except ModelRefused as error:
        return Choice("refused", reason=str(error), lasting=lasting)


if __name__ == "__main__":
    sys.exit(main())
