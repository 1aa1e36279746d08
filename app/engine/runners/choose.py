"""Chooses the kernel: TensorFlow, which can run any model, or another one where it is better.

`auto` takes ONNX Runtime if it agrees with TensorFlow on probe inputs and measured faster, on
machines without an accelerator. Its failure to do so is logged, never fatal. Of `bfloat16` the log
tells how far its outputs are from TensorFlow's.

The comparison needs TensorFlow, a service that runs another kernel does not. So it is a command,
run once for all workers by `load.py`: `python -m app.engine.runners.choose --help`.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from app.engine.runner import ModelRunner, on_accelerator
from app.engine.runners.agreement import agree
from app.engine.runners.choice import Choice
from app.engine.runners.measure import median_seconds
from app.engine.runners.onnx_graph import build_graph, cut_graph
from app.engine.runners.onnxruntime import OnnxRuntimeRunner
from app.engine.runners.probe import probe, probe_state
from app.engine.runners.tensorflow import TensorFlowRunner
from app.errors import ModelRefused
from app.lifeline import end_with_parent
from app.manifest import Manifest, verified_manifest
from app.settings import RunnerChoice

logger = logging.getLogger(__name__)

# Of an output in bfloat16, in its standard deviations, and of a state. Rounding gives a few
# hundredths; more is no rounding.
MAX_ERROR = 0.25


class Chooser:
    """Compares the kernels on one model.

    Args:
        folder: verified.
        manifest: of the folder.
        max_rows: most rows of a chunk.
        max_steps: most time steps of a chunk.

    Raises:
        ModelRefused: TensorFlow cannot load the model.
    """

    def __init__(self, folder: Path, manifest: Manifest, max_rows: int, max_steps: int) -> None:
        self._folder = folder
        self._manifest = manifest
        self._max_rows, self._max_steps = max_rows, max_steps
        self._reference = TensorFlowRunner(folder, manifest)
        self._reference.set_limits(max_rows, max_steps)

    def choose(self, wanted: RunnerChoice) -> Choice:
        """The kernel to use.

        Raises:
            ModelRefused: the one that is wanted does not compute what TensorFlow does.
        """
        if wanted == "tensorflow" or (wanted == "auto" and on_accelerator(self._reference.devices)):
            return Choice("tensorflow")
        if wanted == "bfloat16":
            return self._in_bfloat16()
        try:
            graph = build_graph(self._folder, self._manifest).SerializeToString()
            candidate = OnnxRuntimeRunner(graph, self._manifest)
            self._check(candidate)
            faster = wanted == "onnxruntime" or self._is_faster(candidate)
        except Exception as error:
            if wanted == "onnxruntime":
                raise
            logger.warning("ONNX Runtime is not used: %s: %s", type(error).__name__, error)
            return Choice("tensorflow")
        return Choice("onnxruntime", (graph,)) if faster else Choice("tensorflow")

    def _in_bfloat16(self) -> Choice:
        parts = cut_graph(build_graph(self._folder, self._manifest, take_lengths=False))
        graphs = tuple(part.SerializeToString() for part in parts)
        # Not needed, nor loaded, where another kernel runs.
        from app.engine.runners.bfloat16 import Bfloat16Runner

        candidate = Bfloat16Runner(graphs, self._manifest)
        candidate.set_limits(self._max_rows, self._max_steps)
        of_outputs, of_states = self._errors(candidate)
        logger.info(
            "bfloat16: outputs differ from those of float32 by up to %.4f of their standard "
            "deviation, over %d time steps",
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
                    f"in bfloat16 its {what} differ by {error:.3g} of their {scale} from those of "
                    f"float32; the limit is {MAX_ERROR}"
                )
        return Choice("bfloat16", graphs)

    def _errors(self, candidate: ModelRunner) -> tuple[float, float]:
        """The largest difference from float32 of an output, in its standard deviations, and of a
        state, where that is above 1 as a part of it."""
        probe = self._probe(self._max_rows, self._max_steps)
        (ours, our_state), (theirs, their_state) = (
            candidate.run(*probe),
            self._reference.run(*probe),
        )
        std = [output.transform["std"] for output in self._manifest.outputs]
        # Beyond a row's length both are zero.
        of_outputs = np.abs(ours - theirs) / std
        of_states = np.abs(our_state - their_state) / np.maximum(1.0, np.abs(their_state))
        return float(np.max(of_outputs)), float(np.max(of_states))

    def _check(self, candidate: ModelRunner) -> None:
        probe = self._probe(self._max_rows, self._max_steps)
        ours, our_state = candidate.run(*probe)
        theirs, their_state = self._reference.run(*probe)
        valid = np.arange(self._max_steps) < probe[1][:, np.newaxis]
        if not agree((ours[valid], our_state), (theirs[valid], their_state), self._manifest):
            raise ModelRefused("ONNX Runtime and TensorFlow disagree on probe inputs")

    def _is_faster(self, candidate: ModelRunner) -> bool:
        product = 1.0
        # The two ends: a lone caller, and a full chunk.
        for rows in sorted({1, self._max_rows}):
            probe = self._probe(rows, self._max_steps)
            ratio = median_seconds(self._reference, *probe) / median_seconds(candidate, *probe)
            logger.info("%d rows: ONNX Runtime is %.2f times as fast as TensorFlow", rows, ratio)
            product *= ratio
        return product > 1

    def _probe(self, rows: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inputs, lengths = probe(self._manifest, rows, steps)
        return inputs, lengths, probe_state(rows, self._reference.state_size)


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m app.engine.runners.choose", description="Choose the kernel for a model."
    )
    parser.add_argument("wanted", choices=get_args(RunnerChoice))
    parser.add_argument("folder", type=Path, help="of the exported model")
    parser.add_argument("out", type=Path, help="folder that the choice is written to")
    parser.add_argument("--max-rows", type=int, required=True)
    parser.add_argument("--max-steps", type=int, required=True)
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
        chooser = Chooser(given.folder, manifest, given.max_rows, given.max_steps)
        # What was before may pass: a file that is not there yet, memory that others have.
        lasting = True
        return chooser.choose(given.wanted)
    except ModelRefused as error:
        return Choice("refused", reason=str(error), lasting=lasting)


if __name__ == "__main__":
    sys.exit(main())
