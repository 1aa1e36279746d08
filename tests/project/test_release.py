"""What a release is known by: one version, and a license that every part has."""

import re
import tomllib
from pathlib import Path

import app
from app.application import create_app
from app.settings import Settings
from tests.app.fakes import load_fake

CLIENT = tomllib.loads(Path("client/pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_service_client_and_changelog_have_one_version() -> None:
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    newest, *_ = re.findall(r"^## (\S+)", changelog, re.MULTILINE)
    assert app.__version__ == CLIENT["version"] == newest


def test_the_service_tells_its_version() -> None:
    service = create_app(Settings(), load_fake)
    assert service.openapi()["info"]["version"] == app.__version__


def test_the_client_is_under_the_license_of_all() -> None:
    text = Path("LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert CLIENT["license"] == "Apache-2.0"
    # A package of its own cannot refer to a file above its folder.
    assert Path("client/LICENSE").read_text(encoding="utf-8") == text


def test_the_data_are_not_under_it() -> None:
    assert "CC0 1.0" in Path("data/README.md").read_text(encoding="utf-8")
