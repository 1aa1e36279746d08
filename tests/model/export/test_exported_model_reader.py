"""What training begins from, of an exported version."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.export.exported_model_reader import read_served
from tests.support.exported_models import FEATURES, MIXED, OUTPUTS, make_model


def test_a_version_gives_its_layers_transforms_and_weights(models_dir: Path) -> None:
    served = read_served(models_dir / "mixed" / "1")
    assert (served.name, served.layers) == ("mixed", MIXED)
    assert (served.features, served.outputs) == (FEATURES, OUTPUTS)
    served.check_columns(FEATURES, OUTPUTS)
    exported, other = make_model(MIXED), make_model(MIXED, seed=5)
    served.load_weights(other)
    for expected, found in zip(
        exported.trainable_variables, other.trainable_variables, strict=True
    ):
        np.testing.assert_array_equal(found.numpy(), expected.numpy(), err_msg=found.path)


def test_other_columns_are_refused_by_name(models_dir: Path) -> None:
    """Another order, another unit, and a target in place of a change."""
    served = read_served(models_dir / "mixed" / "1")
    with pytest.raises(ValueError, match=r"has the features temp \(degF, standardize\), pressure"):
        served.check_columns(FEATURES[::-1], OUTPUTS)
    metric = FEATURES[0].model_copy(update={"unit": "degC"})
    with pytest.raises(ValueError, match=r"but the task has temp \(degC, standardize\), pressure"):
        served.check_columns((metric, *FEATURES[1:]), OUTPUTS)
    absolute = OUTPUTS[0].model_copy(update={"transform": OUTPUTS[1].transform})
    with pytest.raises(ValueError, match="the outputs .* the same columns only"):
        served.check_columns(FEATURES, (absolute, OUTPUTS[1]))


def test_a_version_that_is_not_whole_is_refused(models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed" / "1"
    shutil.copytree(models_dir / "mixed" / "1", folder)
    (folder / "chunk.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="chunk.onnx is not the file of the manifest"):
        read_served(folder)
    with pytest.raises(OSError, match="manifest.json"):
        read_served(tmp_path / "mixed" / "2")
