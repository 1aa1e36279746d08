"""What the documents say is so: links lead somewhere, commands and settings are there."""

import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.settings import Settings
from model.tasks.task import TaskConfig
from model.train_arguments import parse_arguments

README = Path("README.md")
DOCUMENTS = [
    *(README, Path("CONTRIBUTING.md"), Path("CHANGELOG.md"), Path("data/README.md")),
    *sorted(Path("docs").glob("*.md")),
]
# Of docker-compose.yml, beside the settings that it passes on.
OF_COMPOSE = {"UNROLL_PUBLISH", "UNROLL_STOP_GRACE"}
OF_A_COMMIT = "results say of which commit they are"

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """The headings of a document as links name them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", read(document), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def code(text: str) -> list[str]:
    """Commands and other code: indented lines, and what stands between backticks."""
    # A command that goes on in the next line is one.
    text = text.replace("\\\n", " ")
    return re.findall(r"^    (.*)$", text, re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)


def commands(document: Path, first: str) -> list[list[str]]:
    """The words of each command that begins so, without its comment."""
    found = [re.search(rf"(?:^|[\s/]){first}\b.*", line) for line in code(read(document))]
    return [shlex.split(each[0], comments=True) for each in found if each]


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^):]+)\)", read(document)):
        target, _, anchor = link.partition("#")
        path = document.parent / target if target else document
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@each_document
def test_files_that_are_named_are_there(document: Path) -> None:
    if document.name.startswith("benchmarks"):
        pytest.skip(OF_A_COMMIT)
    rooms = "app|benchmarks|client|data|docs|model|tests|tools"
    for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", read(document)):
        assert Path(path).exists(), path


@each_document
def test_targets_of_make_are_there(document: Path) -> None:
    makefile = read(Path("Makefile"))
    for words in commands(document, "make"):
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(f"^{target}:", makefile, re.MULTILINE), target


@each_document
def test_modules_that_are_run_are_there(document: Path) -> None:
    if document.name.startswith("benchmarks"):
        pytest.skip(OF_A_COMMIT)
    for words in commands(document, r"python3? -m"):
        assert find_spec(words[2]), words


@each_document
def test_training_understands_its_options(document: Path) -> None:
    for words in commands(document, r"python -m model\.train"):
        options = words[3:]
        if "--help" not in options:
            assert parse_arguments(options)


@each_document
def test_settings_that_are_named_are_there(document: Path) -> None:
    settings = {f"UNROLL_{name.upper()}" for name in Settings.model_fields}
    # `UNROLL_*` names them all.
    named = set(re.findall(r"\bUNROLL_[A-Z0-9_]*[A-Z0-9]\b", read(document)))
    assert named <= settings | OF_COMPOSE


@each_document
def test_services_of_compose_that_are_named_are_there(document: Path) -> None:
    services = re.findall(r"^  ([\w-]+):", read(Path("docker-compose.yml")), re.MULTILINE)
    for words in commands(document, "docker compose"):
        for place, word in enumerate(words):
            if word == "restart":
                assert words[place + 1] in services
            if word == "run":
                assert set(words[place + 1 :]) & set(services), words


def test_readme_has_a_task() -> None:
    (task,) = re.findall(r"```toml\n(.*?)```", read(README), re.DOTALL)
    assert TaskConfig.model_validate(tomllib.loads(task)).name == "plant"
    assert "UNROLL_MODEL=plant " in read(README)


def test_readme_has_the_figures_of_the_benchmarks() -> None:
    (headline,) = re.findall("<!-- headline -->(.*?)<!-- /headline -->", read(README), re.DOTALL)
    figures = re.findall(r"([\d,]+)/s", headline) + re.findall(r"\*\*(\d+\.\d+x)\*\*", headline)
    assert len(figures) >= 10
    benchmarks = read(Path("docs/benchmarks.md"))
    assert [figure for figure in figures if not re.search(rf"\b{figure}\b", benchmarks)] == []


def test_readme_is_short() -> None:
    assert len(read(README).splitlines()) <= 100
