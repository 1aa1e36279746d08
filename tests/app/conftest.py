"""The model that the tests over HTTP serve."""

from pathlib import Path

import pytest

from tests.exports import export


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' folder with `tiny`, a true export of one layer of one unit, for fake runners."""
    folder = tmp_path_factory.mktemp("tiny")
    export(folder, ("rnn:1",), "tiny")
    return folder
