"""A kernel chosen for one of the models that tests export, with small chunks."""

from pathlib import Path
from typing import Any

from app.kernels.selected_kernel import Choice
from app.kernels.selection import Chooser
from app.manifest import verified_manifest


def chosen(models_dir: Path, wanted: Any, model: str = "lstm", rounded: bool = False) -> Choice:
    folder = models_dir / model / "1"
    return Chooser(folder, verified_manifest(folder), 2, 16, rounded).choose(wanted)
