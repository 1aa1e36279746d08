"""`UNROLL_RUNNER=bfloat16`, as whoever sets it has it: right but for rounding, which is told."""

from pathlib import Path

import httpx
import numpy as np
import openvino

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import serve
from tests.support.reference_model import Reference

# In standard deviations of each output; see `tests/app/engine/test_runners.py`.
TOLERANCE = 0.05


def test_any_mixture_of_lengths_is_right_but_for_rounding(models_dir: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    sequences = [raw_sequence(random, int(steps)) for steps in random.integers(1, 60, 20)]
    reference = Reference(models_dir / "mixed" / "1")
    std = [output["transform"]["std"] for output in reference.manifest["outputs"]]
    log = tmp_path / "log"
    with serve(models_dir, "mixed", log, workers=1, runner="bfloat16", max_chunk_steps=16) as on:
        body = {"sequences": [to_json(sequence) for sequence in sequences]}
        answer = httpx.post(f"{on.url}/predict", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        errors = [
            np.abs(np.array(outputs) - reference(sequence)[0]).max(axis=0) / std
            for outputs, sequence in zip(answer.json()["outputs"], sequences, strict=True)
        ]
    assert np.max(errors) < TOLERANCE
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert np.max(errors) > 1e-4, "float32's is below 1e-5"
    assert "bfloat16: outputs differ from those of float32 by up to 0.0" in log.read_text()
