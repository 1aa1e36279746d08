"""Fixtures that many tests share: exported models, made once a run."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import settings

from tests.exports import MIXED, export

# A shared machine pauses at will: how long an example takes says nothing.
settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where TensorFlow can use none."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not tf.config.list_physical_devices("GPU"):
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_frozen() -> Iterator[None]:
    """A service freezes what it has loaded; here hundreds come and go, with files that are open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' folder with one small exported model of each kind: rnn, lstm, gru, mixed."""
    folder = tmp_path_factory.mktemp("models")
    for name, layers in {
        "rnn": ("rnn:16", "rnn:8:relu"),
        "lstm": ("lstm:16", "lstm:8"),
        "gru": ("gru:16", "gru:8"),
        "mixed": MIXED,
    }.items():
        export(folder, layers, name)
    return folder
