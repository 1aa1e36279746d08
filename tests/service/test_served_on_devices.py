"""A model of several devices, in a real service on a CPU that is split."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.model import on_devices
from tests.model.children import pool
from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import serve
from tests.support.reference_model import Reference, assert_close


@pytest.mark.parametrize(("devices", "expected"), [(3, 3), (2, 2)])
def test_every_layer_is_on_its_device_and_answers_are_those_of_the_reference(
    tmp_path: Path, devices: int, expected: int
) -> None:
    """Many callers at once, so that a chunk is in flight for each device."""
    with pool(1) as processes:
        folder = processes.submit(on_devices.exported, tmp_path, 3).result()
    reference = Reference(folder)
    random = np.random.default_rng(0)
    sequences = [raw_sequence(random, int(steps)) for steps in random.integers(1, 90, 24)]
    options = {"runner": "auto", "logical_devices": devices, "slots_per_lane": 4}
    with (
        serve(tmp_path, "placed", tmp_path / "log", **options) as server,
        server.client() as client,
    ):
        (model,) = client.get("/models").json()["models"]
        where = [layer["device"] for layer in model["layers"]]
        assert len(set(where)) == expected
        assert where == sorted(where)

        def ask(sequence: np.ndarray) -> list[list[float]]:
            answer = client.post("/predict", json={"sequences": [to_json(sequence)]})
            outputs: list[list[float]] = answer.json()["outputs"][0]
            return outputs

        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(ask, sequences))
        assert server.stop() == 0
    for sequence, answer in zip(sequences, answers, strict=True):
        assert_close(answer, reference(sequence)[0])
