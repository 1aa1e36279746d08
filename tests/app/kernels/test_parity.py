"""Kernels are compared in an output's standard deviations, not in the unit that it happens to have.

With outputs that are large and cross zero a right kernel was refused; with small ones a wrong one
was not.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.errors import ModelRefused
from app.kernels import parity
from app.kernels.loader import KernelLoader
from app.kernels.parity import Results, check_agreement
from app.kernels.tensorflow import TensorFlowRunner
from app.manifest import Manifest, verified_manifest
from model.export import parity as exports
from model.transforms import Output, Standardize
from tests.support import exported_models

STATE = np.zeros((2, 3), np.float32)


def agree(ours: Results, theirs: Results, manifest: Manifest) -> bool:
    try:
        check_agreement(ours, theirs, manifest, "it")
    except ModelRefused:
        return False
    return True


@dataclasses.dataclass
class Scaled:
    """A model whose only output has this mean and spread."""

    mean: float
    std: float

    def manifest(self, folder: Path) -> Manifest:
        manifest = verified_manifest(folder)
        output = manifest.outputs[0]
        transform = output.transform.model_copy(update={"mean": self.mean, "std": self.std})
        output = output.model_copy(update={"transform": transform})
        return manifest.model_copy(update={"outputs": (output,)})

    def outputs(self, error: float) -> np.ndarray:
        """Outputs about zero, float32 `[5, 1]`, off by so many standard deviations."""
        standardised = np.linspace(-1.0, 1.0, 5)[:, np.newaxis] + error
        return (standardised * self.std + self.mean).astype(np.float32)


@pytest.mark.parametrize(("mean", "std"), [(0, 1e5), (0, 1e-9), (1e9, 1e5), (5.0, 1.0), (1e5, 1)])
def test_rounding_agrees_and_a_wrong_transform_does_not_in_any_unit(
    models_dir: Path, mean: float, std: float
) -> None:
    scaled = Scaled(mean, std)
    manifest, right = scaled.manifest(models_dir / "lstm" / "1"), scaled.outputs(0.0)
    for error, same in ((5e-6, True), (-5e-6, True), (0.2, False), (np.nan, False)):
        assert agree((scaled.outputs(error), STATE), (right, STATE), manifest) is same
    assert not agree((right, STATE + 0.01), (right, STATE), manifest)


def export_scaled(folder: Path, std: float, monkeypatch: pytest.MonkeyPatch) -> Path:
    outputs = [Output(name=n, unit="", transform=Standardize(mean=0.0, std=std)) for n in "ab"]
    monkeypatch.setattr(exported_models, "OUTPUTS", tuple(outputs))
    return exported_models.export(folder, ("lstm:8",))


def test_a_model_with_outputs_that_are_large_and_cross_zero_is_served_by_either_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_scaled(tmp_path, 1e7, monkeypatch)
    manifest = verified_manifest(folder)
    TensorFlowRunner(folder, manifest).warm_up(1, 4)
    assert KernelLoader("auto", 64, 256, tmp_path)(folder, manifest).kernel == "onnxruntime"


def test_an_export_is_checked_by_the_same_numbers() -> None:
    """The two sides share no code."""
    ours, theirs = ((m.TOLERANCE, m.ROUNDING) for m in (parity, exports))
    assert ours == theirs


def test_a_model_with_small_outputs_is_compared_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export_scaled(tmp_path, 1e-9, monkeypatch)
    manifest = verified_manifest(folder)
    runner = TensorFlowRunner(folder, manifest)
    plain = runner._model.plain

    def wrong(*arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs, state = plain(*arguments)
        return outputs * 1.5, state

    monkeypatch.setattr(runner._model, "plain", wrong)
    with pytest.raises(ModelRefused, match="disagree on the manifest's example"):
        runner.warm_up(1, 4)
