"""The model that the tests over HTTP serve."""

import hashlib
import json
from pathlib import Path

import pytest

# What an export of one layer of one unit writes: `tests/service/test_saved_model.py` compares.
MANIFEST = Path(__file__).with_name("tiny.json")


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models' folder with `tiny`, for fake kernels: a manifest without the SavedModel."""
    models = tmp_path_factory.mktemp("tiny")
    folder = models / "tiny" / "1"
    folder.mkdir(parents=True)
    manifest = json.loads(MANIFEST.read_text()) | {
        "created": "2026-01-01T00:00:00+00:00",
        "libraries": {},
        "files": {},
    }
    text = json.dumps(manifest)
    (folder / "manifest.json").write_text(text)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (folder / "manifest.sha256").write_text(f"{checksum}  manifest.json\n")
    return models
