import pytest

from model.train_arguments import parse_arguments
from tools import docs_tables


@pytest.mark.parametrize("name", docs_tables.PAGES)
def test_tables_are_as_the_code_has_them(name: str) -> None:
    page = (docs_tables.DOCS / name).read_text(encoding="utf-8")
    assert docs_tables.written(name, page) == page, "run `make docs`"


def test_only_what_is_between_the_comments_changes() -> None:
    begin, end = "<!-- settings: written by make docs -->", "<!-- /settings -->"
    page = docs_tables.written("settings.md", f"before\n{begin}\nis stale\n{end}\nafter\n")
    assert page.startswith(f"before\n{begin}\n\n| variable | meaning | default |\n| --- |")
    assert "\n| `UNROLL_PORT` | port; 0 for any free one | `8000` |\n" in page
    assert page.endswith(f" |\n\n{end}\nafter\n")
    assert "stale" not in page


@pytest.mark.parametrize("places", [0, 2])
def test_a_page_without_one_place_for_its_table_is_told(places: int) -> None:
    page = "<!-- settings: written by make docs -->\n<!-- /settings -->\n" * places
    with pytest.raises(ValueError, match=r"settings.md has not one place for the table 'settings'"):
        docs_tables.written("settings.md", page)


def test_every_option_of_the_command_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    options = {
        word.rstrip(",")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  --")
        for word in line.split()[:1]
    }
    rows = {row.split("`")[1] for row in docs_tables.options()[2:]}
    assert rows == options


def test_what_is_chosen_later_has_no_default_of_its_own() -> None:
    rows = docs_tables.options()
    assert "| `--name` | name of the exported model | the task's name |" in rows
    assert any(row.startswith("| `--chunk-steps` |") and row.endswith("| chosen |") for row in rows)
    layers = next(row for row in rows if row.startswith("| `--layers` |"))
    assert layers.endswith("| auto, or lstm:100 lstm:100 lstm:100 for the default task |")
    rate = next(row for row in rows if row.startswith("| `--learning-rate` |"))
    assert rate.endswith("| `0.003` |")


def test_titles_of_a_status_stand_together() -> None:
    rows = docs_tables.problems()[2:]
    assert (
        "| 408 | The head of the request did not arrive in time; The body did not arrive in time |"
        in rows
    )
    statuses = [row.split()[1] for row in rows]
    assert statuses == sorted(set(statuses))


def test_protocols_with_pages_of_their_own_are_left_out() -> None:
    rows = docs_tables.routes()
    assert "| `GET /readyz` | Whether a model is loaded and warm |" in rows
    assert not [row for row in rows if "/v1" in row or "/v2" in row]


def test_a_field_has_its_values_and_its_default() -> None:
    fields = {row.split("`")[1]: row for row in docs_tables.fields()[2:]}
    assert fields["sequences"].endswith("|  | required |")
    assert fields["outputs"].endswith("| `all`, `last`, `none` | `all` |")
