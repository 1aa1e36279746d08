"""Writes the tables of docs/ that come from the code: `make docs`.

A table stands between two comments of its page, `<!-- NAME: written by make docs -->` and
`<!-- /NAME -->`. All else on a page is written by hand.
"""

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from app.api.problems import STATUSES
from app.api.schemas import PredictRequest
from app.application import create_app
from app.engine.runner_interface import ModelRunner
from app.manifest import Manifest
from app.settings import Settings
from model.train_arguments import BACKTEST, CONFIG, SWITCHES, WRITE_TASK, shown_default
from model.train_config import TrainConfig, flag_of

DOCS = Path(__file__).parents[1] / "docs"
# Routes with these tags have pages of their own.
OTHER_PROTOCOLS = {"open inference protocol", "TensorFlow Serving"}


def main() -> None:
    """Writes all tables anew."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name in PAGES:
        path = DOCS / name
        path.write_text(written(name, path.read_text(encoding="utf-8")), encoding="utf-8")


def written(name: str, page: str) -> str:
    """A page with its tables as the code has them.

    Args:
        name: of the page, one of `PAGES`.
        page: its text.

    Raises:
        ValueError: the page has not exactly one place for one of its tables.
    """
    for table, lines in PAGES[name].items():
        begin, end = f"<!-- {table}: written by make docs -->", f"<!-- /{table} -->"
        parts = re.split(f"({re.escape(begin)}\n|{re.escape(end)})", page)
        if len(parts) != 5:
            raise ValueError(f"{name} has not one place for the table {table!r}")
        parts[2] = "\n".join(["", *lines(), "", ""])
        page = "".join(parts)
    return page


def settings() -> list[str]:
    """Each setting of the service."""
    prefix = Settings.model_config["env_prefix"]
    return _table(
        ("variable", "meaning", "default"),
        (
            (_code(f"{prefix}{name.upper()}"), field.description, _code(field.default))
            for name, field in Settings.model_fields.items()
        ),
    )


def options() -> list[str]:
    """Each option of `python -m model.train`."""
    rows = []
    for name, field in TrainConfig.model_fields.items():
        # What is chosen while training says so itself.
        meaning, _, chosen = str(field.description).partition("; default: ")
        rows.append((_code(flag_of(name)), meaning, chosen or _default(field)))
    rows.append((_code("--write-task"), WRITE_TASK, ""))
    rows.append((_code("--config"), CONFIG, ""))
    rows.append((_code("--backtest"), BACKTEST, ""))
    rows += [(_code(flag_of(name)), meaning, "") for name, meaning in SWITCHES.items()]
    return _table(("option", "meaning", "default"), rows)


def _default(field: FieldInfo) -> str:
    shown = shown_default(field)
    return "" if shown is None else _code(shown)


def problems() -> list[str]:
    """The titles of all errors, by their statuses."""
    titles: dict[int, list[str]] = {}
    for status, title in STATUSES.values():
        titles.setdefault(status, []).append(title)
    return _table(
        ("status", "title"), ((status, "; ".join(titles[status])) for status in sorted(titles))
    )


def fields() -> list[str]:
    """Each field of a request for `/predict`."""
    schema = PredictRequest.model_json_schema()
    rows = []
    for name, field in schema["properties"].items():
        values = ", ".join(_code(value) for value in field.get("enum", ()))
        default = "required" if name in schema["required"] else _code(field["default"] or "null")
        rows.append((_code(name), field["description"], values, default))
    return _table(("field", "meaning", "values", "default"), rows)


def routes() -> list[str]:
    """Method, path and meaning of each route of the native API."""
    paths: dict[str, dict[str, Any]] = create_app(Settings(), _no_kernel).openapi()["paths"]
    return _table(
        ("request", "answer"),
        (
            (_code(f"{method.upper()} {path}"), operation["summary"])
            for path, operations in paths.items()
            for method, operation in operations.items()
            if not OTHER_PROTOCOLS & set(operation["tags"])
        ),
    )


def _no_kernel(folder: Path, manifest: Manifest) -> ModelRunner:
    raise AssertionError("this is a bug: a route is described without any kernel")


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]


def _code(value: object) -> str:
    return f"`{value}`"


PAGES: dict[str, dict[str, Callable[[], list[str]]]] = {
    "api.md": {"routes": routes, "fields": fields},
    "errors.md": {"problems": problems},
    "settings.md": {"settings": settings},
    "training.md": {"options": options},
}

if __name__ == "__main__":
    main()
