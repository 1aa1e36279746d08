"""Kinds of columns that are no plain numbers, in every kernel: relative, flags, categories."""

from pathlib import Path

import numpy as np
import pytest

from app.columns import OneHot
from app.engine.runner_interface import ModelRunner
from app.kernels.bfloat16 import Bfloat16Runner
from app.kernels.column_transforms import InputColumns, example_inputs
from app.kernels.cudnn import CudnnRunner
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import Manifest, verified_manifest
from tests.app.kernels.runners import MAX_ROWS, MAX_STEPS, make_runner
from tests.support.exported_models import BASE, sequence_of_kinds
from tests.support.reference_model import Reference, assert_close

LENGTHS = [16, 3, 5, 9]
KERNELS = (TensorFlowRunner, OnnxRuntimeRunner, CudnnRunner, Bfloat16Runner)


@pytest.fixture(scope="module", params=KERNELS, ids=lambda kind: kind.kernel)
def runner(request: pytest.FixtureRequest, kinds_dir: Path) -> ModelRunner:
    folder = kinds_dir / "kinds" / "1"
    made = make_runner(request.param, folder, verified_manifest(folder))
    made.set_limits(MAX_ROWS, MAX_STEPS)
    return made


@pytest.mark.parametrize("padding", [np.nan, 1e30, -1e30])
def test_every_kernel_computes_what_the_manifest_says(
    runner: ModelRunner, kinds_dir: Path, padding: float
) -> None:
    """Padding of a category is no code, and must not be looked up."""
    random, reference = np.random.default_rng(3), Reference(kinds_dir / "kinds" / "1")
    rows = [sequence_of_kinds(random, length) for length in LENGTHS]
    inputs = np.full((len(rows), max(LENGTHS), 6), padding, np.float32)
    for row, sequence in zip(inputs, rows, strict=True):
        row[: len(sequence)] = sequence
    assert {0.0, 1.0, 2.0, 3.0} <= {*inputs[0, :, 1]}, "every code, that of unknown values too"
    state = np.zeros((len(rows), runner.state_size), np.float32)
    outputs, _ = runner.run(inputs, np.array(LENGTHS, np.int32), state)
    for found, sequence in zip(outputs, rows, strict=True):
        expected, _ = reference(sequence)
        if isinstance(runner, Bfloat16Runner):
            # In standard deviations of the outputs; see `test_kernels.py`.
            error = (found[: len(sequence)] - expected) / [3.0, 4.0, 19.0]
            assert np.abs(error).max() < 0.05
        else:
            assert_close(found[: len(sequence)], expected)


def test_a_value_that_is_not_known_is_none_of_those_that_are() -> None:
    """Zeros are the mean of all values, whose shares are taken from their columns."""
    shares = (0.2, 0.3, 0.5)
    table = OneHot(kind="one_hot", values=("a", "b", "c"), shares=shares).table()
    np.testing.assert_array_equal(table[0], np.zeros(3))
    np.testing.assert_allclose(np.array(shares) @ table[1:], np.zeros(3), atol=1e-7)
    np.testing.assert_allclose(table[2], [-0.2, 0.7, -0.5])


def test_categories_share_a_table(kinds_dir: Path) -> None:
    features = verified_manifest(kinds_dir / "kinds" / "1").features
    columns = InputColumns.of(features, {5: np.ones((6, 3))})
    assert (columns.plain, columns.coded, columns.missing) == ([0, 2, 3], [1, 4, 5], [1, 5])
    assert (columns.last.tolist(), columns.first.tolist()) == ([3, 2, 6], [0, 4, 7])
    assert columns.table.shape == (14, 8)
    # The meter, the sky's three and its flag, the holiday, the size, the fuel's two, the zone's
    # three and its flag.
    assert columns.order == [0, 5, 6, 1, 2, 3, 7, 8, 9, 10, 11, 4, 12]


def test_the_example_is_in_callers_terms_and_kernels_have_it_in_theirs(kinds_dir: Path) -> None:
    manifest: Manifest = verified_manifest(kinds_dir / "kinds" / "1")
    meter, sky, holiday, *_ = manifest.example[0]
    assert isinstance(meter, float)
    assert meter > BASE
    assert sky in ("unknown", "drizzle", "rain", "sun", None)
    assert type(holiday) is bool
    expected = sequence_of_kinds(np.random.default_rng(9), 4)
    np.testing.assert_array_equal(example_inputs(manifest), expected)
