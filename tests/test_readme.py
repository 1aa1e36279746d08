"""What the README says is so: its tables name every setting and option with its default."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from model.config import TrainConfig

README = Path("README.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """First cell to last cell of every table row."""
    found = {}
    for line in README.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 3:
            found[cells[0].strip("`")] = cells[-1].strip("`")
    return found


def shown(default: Any) -> str:
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    return str(default)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_is_documented_with_its_default(name: str) -> None:
    assert rows()[f"UNROLL_{name.upper()}"] == shown(Settings.model_fields[name].default)


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_option_is_documented_with_its_default(name: str) -> None:
    default = TrainConfig.model_fields[name].default
    expected = {"name": "the task's name", "chunk_steps": "chosen"}.get(name, shown(default))
    assert rows()[f"--{name.replace('_', '-')}"] == expected


def test_linked_files_exist() -> None:
    for document in [Path("README.md"), Path("CONTRIBUTING.md"), *Path("docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document} links to {target}"
