"""The default training, to its end, and the service with it: what `make run` gives a new user."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.real_server import Server, serve

# Another processor rounds otherwise and training amplifies that; a broken model is off by tens.
README_TOLERANCE_DEGF = 2.0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' folder with the default model, trained by the documented command."""
    models = tmp_path_factory.mktemp("default")
    subprocess.run(
        [sys.executable, "-m", "model.train", "--models-dir", str(models)],
        check=True,
        timeout=1500,
    )
    return models


@pytest.mark.timeout(1800)
def test_error_is_below_every_baseline_at_every_horizon(trained: Path) -> None:
    manifest = json.loads((trained / "weather" / "1" / "manifest.json").read_text())
    errors = manifest["metrics"]["mean_absolute_error"]
    assert set(errors) == {
        "model",
        "persistence",
        "same time last season",
        "linear autoregression",
        "linear autoregression, last season",
    }
    for baseline, of_baseline in errors.items():
        for output, error in of_baseline.items():
            if baseline != "model":
                assert errors["model"][output] < error, f"{output} against {baseline}"


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(trained, "weather", tmp_path_factory.mktemp("log") / "server.log") as running:
        yield running


def curls(document: str, server: Server) -> tuple[list[Any], Any]:
    """What a document's requests are answered by this server, and the answer that stands there."""
    text = Path(document).read_text(encoding="utf-8").replace("http://localhost:8000", server.url)
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    ran = [subprocess.run(shlex.split(each), check=True, capture_output=True) for each in commands]
    (expected,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return [json.loads(each.stdout) for each in ran], json.loads(expected)


def test_readme_curls_get_the_readme_answer(server: Server) -> None:
    (whole, session), expected = curls("README.md", server)
    assert whole["model"] == expected["model"]
    np.testing.assert_allclose(
        whole["outputs"], expected["outputs"], rtol=0, atol=README_TOLERANCE_DEGF
    )
    assert session["session"] == {"id": "meter-17", "time_step": 1}
    np.testing.assert_allclose(session["outputs"][0], whole["outputs"][0][0], rtol=1e-5)


def test_mistakes_are_answered_as_documented(server: Server) -> None:
    answers, expected = curls("docs/errors.md", server)
    assert answers == [expected]
