import shutil

import pytest

from benchmarks.model_files import BenchModel
from benchmarks.sections import upper_bound
from tests.benchmarks.serving.results import kernel


def test_the_bound_is_cores_over_the_work_of_a_request() -> None:
    assert upper_bound.bound_of(2, 2e-4, 3e-4) == pytest.approx(4000)


def test_the_best_kernel_is_unrolls_in_float32_and_by_sequence() -> None:
    assert upper_bound.best_kernel(kernel())["form"] == "Unroll: ONNX Runtime"
    assert upper_bound.best_kernel(kernel())["rows"] == 128


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_app_without_a_kernel_answers(tiny_model: BenchModel) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upper_bound, "CLIENTS", (2,))
        found = upper_bound.find_bound(tiny_model, rounds=1, seconds=1, kernels=kernel())
    assert 0 < found.http_core_s < 0.1
    assert found.per_second == pytest.approx(
        found.cores / (found.http_core_s + found.kernel_core_s)
    )
