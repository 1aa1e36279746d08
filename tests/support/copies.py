"""Copies of exported folders, for tests that change them."""

import shutil
from pathlib import Path


def copy_of(folder: Path, models_dir: Path) -> Path:
    """A copy of `.../<name>/<version>` in another models' folder."""
    return Path(shutil.copytree(folder, models_dir / folder.parent.name / folder.name))
