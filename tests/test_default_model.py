"""The default training, to its end, and the service with it: what `make run` gives a new user."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.server import serve

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
        "same time yesterday",
        "linear autoregression",
        "linear autoregression, last day",
    }
    for baseline, of_baseline in errors.items():
        for output, error in of_baseline.items():
            if baseline != "model":
                assert errors["model"][output] < error, f"{output} against {baseline}"


def test_readme_curl_gets_the_readme_answer(trained: Path, tmp_path: Path) -> None:
    readme = Path("README.md").read_text(encoding="utf-8")
    command = re.search(r"```sh\n(curl.*?)```", readme, re.DOTALL)
    answer = re.search(r"```json\n(.*?)```", readme, re.DOTALL)
    assert command
    assert answer
    with serve(trained, "weather", tmp_path / "log") as server:
        arguments = shlex.split(command[1].replace("\\\n", " "))
        arguments = [a.replace("http://localhost:8000", server.url) for a in arguments]
        printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    expected, actual = json.loads(answer[1]), json.loads(printed)
    assert actual["model"] == expected["model"]
    np.testing.assert_allclose(
        actual["outputs"], expected["outputs"], rtol=0, atol=README_TOLERANCE_DEGF
    )
