"""`python -m benchmarks.kernels`: the kernels alone, on the same weights, one thread each.

Interleaved rounds, medians: milliseconds of a call with B sequences of 50 time steps, GFLOP/s, the
ratio to ONNX Runtime and to the peak of a large float32 matrix product in the same run.
"""

import os

# Read when the libraries are imported: one thread each.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.kernels import unroll_kernels
from benchmarks.kernels.compared_kernels import (
    BFLOAT16_TOLERANCE,
    TOLERANCE,
    CallForm,
    Form,
    TorchForm,
    keras_form,
    onnx_form,
    runner_form,
)
from benchmarks.kernels.table import ERROR_ROWS, kernel_table
from benchmarks.kernels.work import ANCHOR, BFLOAT16, ROWS, median_seconds, operations
from benchmarks.model_files import BenchModel
from benchmarks.models.ensure_model import ensure_model

PEAK_SIZE = 1024
# Unroll's, by the names of their rows.
RUNNERS = {
    "Unroll: TensorFlow": unroll_kernels.TENSORFLOW,
    "Unroll: ONNX Runtime": unroll_kernels.ONNXRUNTIME,
    BFLOAT16: unroll_kernels.BFLOAT16,
}

Row = dict[str, Any]


def load_forms(model: BenchModel, most_rows: int) -> dict[str, Form]:
    """Every form, on one thread.

    Raises:
        ValueError: one computes something else.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    forms: dict[str, Form] = {ANCHOR: onnx_form(model)}
    for name, runner in RUNNERS.items():
        forms[name] = runner_form(model, runner, most_rows)
    forms["Keras tf.function"] = keras_form(model)
    forms["PyTorch"] = TorchForm(model)
    wanted = forms[ANCHOR].total()
    for name, form in forms.items():
        tolerance = BFLOAT16_TOLERANCE if name == BFLOAT16 else TOLERANCE
        if not np.isclose(form.total(), wanted, tolerance, tolerance):
            raise ValueError(f"{name} computes {form.total()}, {ANCHOR} {wanted}")
    return forms


def bfloat16_error(forms: dict[str, Form]) -> float:
    """The largest difference of its outputs from the anchor's, in their standard deviations."""
    ours, anchor = forms[BFLOAT16], forms[ANCHOR]
    assert isinstance(ours, CallForm)
    assert isinstance(anchor, CallForm)
    wanted = anchor.outputs(ERROR_ROWS)
    return float(np.abs(ours.outputs(ERROR_ROWS) - wanted).max() / wanted.std())


def peak_gflops() -> float:
    """GFLOP/s of a large float32 matrix product on one thread, a round's median."""
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(PEAK_SIZE, PEAK_SIZE)).astype(np.float32) for _ in range(2))
    return 2e-9 * PEAK_SIZE**3 / median_seconds(lambda: a @ b)


def measure(model: BenchModel, rows: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measures every form.

    Args:
        model: whose weights.
        rows: batch sizes.
        rounds: interleaved.

    Returns:
        `peak_gflops`, `bfloat16_error`, and `rows`: one a form and batch size with `ms` and
        `gflops`.
    """
    forms = load_forms(model, max(rows))
    error = bfloat16_error(forms)
    times: dict[tuple[str, int], list[float]] = {}
    peaks = []
    for _ in range(rounds):
        peaks.append(peak_gflops())
        for count in rows:
            for name, form in forms.items():
                times.setdefault((name, count), []).append(form.seconds(count))
    torch = forms["PyTorch"]
    assert isinstance(torch, TorchForm)
    torch.close()
    found: list[Row] = []
    for (name, count), rounds_s in times.items():
        seconds = median(rounds_s)
        gflops = 1e-9 * operations(model.units, count) / seconds
        found.append({"form": name, "rows": count, "ms": 1e3 * seconds, "gflops": gflops})
    return {
        "units": model.units,
        "peak_gflops": median(peaks),
        "bfloat16_error": error,
        "rows": found,
    }


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--model", type=int, default=100, help="units of each layer")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    results = measure(ensure_model(options.model), options.rows, options.rounds)
    print(json.dumps(results) if options.json else kernel_table(results))
    if not options.json:
        print(f"\nsgemm peak: {results['peak_gflops']:.0f} GFLOP/s on one thread")
        print(f"bfloat16: off by up to {results['bfloat16_error']:.3f} standard deviations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
