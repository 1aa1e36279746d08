"""What the command's options choose, and what it keeps of earlier runs."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.sections.plan import QUICK
from benchmarks.serving import __main__ as command
from benchmarks.serving.__main__ import kept, parse_arguments, plan_of, run
from tests.benchmarks.serving.results import Results, origin


def test_options_choose_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*options: str) -> tuple[tuple[str, ...], str, str]:
        monkeypatch.setattr("sys.argv", ["serving", *options])
        chosen, folder, file = plan_of(parse_arguments())
        return chosen.sections, folder.name, file.name

    assert plan()[1:] == ("docs", "results.json")
    assert plan("--quick")[2] == "quick.json"
    assert plan("--clients", "64")[0] == ("closed",)
    assert plan("--clients", "64")[2] == "part.json"
    assert plan("--only", "open,bound") == (("open", "bound"), "docs", "results.json")


def test_each_section_keeps_where_it_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = SimpleNamespace(measure=lambda *_: [])
    monkeypatch.setattr(command, "SECTIONS", dict.fromkeys(("closed", "open"), section))
    file = tmp_path / "results.json"
    run(replace(QUICK, sections=("closed", "open")), {}, file, origin())
    later = origin() | {"command": "later", "commit": "fedcba", "rounds": 1}
    run(replace(QUICK, sections=("open",)), kept(file, ("open",), later), file, later)
    measured = json.loads(file.read_text())["measured"]
    assert [measured[name]["commit"] for name in ("closed", "open")] == ["abcdef", "fedcba"]
    assert [measured[name]["rounds"] for name in ("closed", "open")] == [3, 1]
    assert measured["closed"]["command"] == origin()["command"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"machine": {"cpu": "Another"}}, "'closed' was measured on another machine"),
        ({"versions": {"python": "3.12"}}, "'closed' was measured with other versions"),
    ],
)
def test_a_page_does_not_mix_machines_or_versions(
    tmp_path: Path, other: Results, message: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"closed": [], "measured": {"closed": origin()}}))
    with pytest.raises(ValueError, match=message):
        kept(file, ("open",), origin() | other)
    assert kept(file, ("closed",), origin() | other)["closed"] == []


def test_results_that_do_not_say_where_they_are_from_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"closed": [], "commits": {"closed": "abcdef"}}))
    with pytest.raises(ValueError, match=r"does not say .*: run without --only"):
        kept(file, ("open",), origin())


def test_unknown_names_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["serving", "--servers", "unroll,nope"])
    with pytest.raises(SystemExit):
        parse_arguments()
    assert "no 'nope'; there are unroll" in capsys.readouterr().err
