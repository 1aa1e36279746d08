"""The package stands alone: it installs, is typed, and shares nothing with the service."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unroll_client

PACKAGE = Path("client/unroll_client")
NEEDED = {"httpx", "numpy", "websockets"}
# By those who call what needs it.
OPTIONAL = {"pandas"}


def imported(file: Path) -> set[str]:
    """First parts of the names of all modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{file}: relative imports"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.stem)
def test_the_client_imports_only_what_it_is_installed_with(file: Path) -> None:
    foreign = imported(file) - set(sys.stdlib_module_names) - {"unroll_client"}
    assert foreign <= NEEDED | OPTIONAL


@pytest.mark.parametrize("house", ["app", "model", "benchmarks"])
def test_nothing_depends_on_the_client(house: str) -> None:
    files = list(Path(house).rglob("*.py"))
    assert files
    assert not [file for file in files if "unroll_client" in imported(file)]


def test_it_says_what_it_needs() -> None:
    project = tomllib.loads(Path("client/pyproject.toml").read_text())["project"]
    assert {text.split(">")[0] for text in project["dependencies"]} == NEEDED
    assert set(project["optional-dependencies"]) == OPTIONAL


def test_all_that_it_exports_is_there() -> None:
    assert sorted(unroll_client.__all__) == unroll_client.__all__
    assert all(hasattr(unroll_client, name) for name in unroll_client.__all__)


def test_it_takes_missing_numbers_without_pandas() -> None:
    code = (
        "import sys; from unroll_client.encode import rows;"
        "print(rows([[1.0, None]]), 'pandas' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": "client"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.stdout == "[[1.0, None]] False\n", ran.stderr


@pytest.mark.long
def test_it_installs(tmp_path: Path) -> None:
    source, target = tmp_path / "client", tmp_path / "installed"
    # Building leaves things behind.
    shutil.copytree(
        "client", source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, "--target", target, source]
    made = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert made.returncode == 0, made.stderr
    assert (target / "unroll_client" / "py.typed").exists()
    ran = subprocess.run(
        [sys.executable, "-c", "import unroll_client as u; print(u.Client, u.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert str(target) in ran.stdout, ran.stderr
