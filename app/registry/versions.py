"""`ModelVersion`: one version and its state; `find_versions`: the versions in a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.engine.engine import Engine
from app.manifest import Manifest

ModelState = Literal["found", "loading", "ready", "refused"]


@dataclass
class ModelVersion:
    """One version.

    Attributes:
        name: of the model.
        version: its number.
        folder: that it was exported to.
        state: found in the folder, being loaded, answering, or refused.
        reason: why it is refused.
        manifest: once it has been read.
        engine: that runs the version, once it is ready.
    """

    name: str
    version: int
    folder: Path
    state: ModelState = "found"
    reason: str = ""
    manifest: Manifest | None = None
    engine: Engine | None = None


def find_versions(home: Path) -> list[ModelVersion]:
    """The versions in `models/<name>`, newest first. Hidden folders are exports under way."""
    if not home.is_dir():
        return []
    names = [p.name for p in home.iterdir() if p.name.isdecimal() and p.is_dir()]
    # `01` is not where version 1 is looked for.
    numbers = [int(name) for name in names if name == str(int(name))]
    return [
        ModelVersion(home.name, number, home / str(number))
        for number in sorted(numbers, reverse=True)
    ]
