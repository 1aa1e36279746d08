"""What the tests of a training as a command begin with."""

from pathlib import Path

import pytest

from tests.model.toy_training import write_task


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The task file of a small training."""
    return write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's models are exported to."""
    return tmp_path_factory.mktemp("models")
