"""Starts the server of `children.py` early: it imports TensorFlow while the first tests run."""

from multiprocessing import forkserver

import pytest

from tests.model import children


@pytest.fixture(scope="session", autouse=True)
def _server_of_children() -> None:
    assert children.CONTEXT.get_start_method() == "forkserver"
    forkserver.ensure_running()
