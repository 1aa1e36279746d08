"""Options of training in a TOML file, as `--config` reads it and each run writes it."""

import json
import tomllib
from pathlib import Path
from typing import Any

from model.train_config import TrainConfig, option_of

HEAD = """\
# The options of a training, by the names they have on the command line, with _ for -:
#   python -m model.train --config FILE
# What the command line says comes before this file, and this file before the defaults.
"""


def read_options(path: Path) -> dict[str, Any]:
    """The options of a file by their names; not checked yet.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not TOML, or has an option that there is none of.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, or not UTF-8
        raise ValueError(f"{path}: {error}") from error
    known = [option_of(name) for name in TrainConfig.model_fields]
    for name in found:
        if name not in known:
            raise ValueError(f"{path}: there is no option {name!r}; there are {', '.join(known)}")
    return found


def options_text(config: TrainConfig) -> str:
    """All options as TOML, each below its meaning; those that have no value as comments."""
    lines = [HEAD]
    for name, value in config.model_dump(mode="json").items():
        lines.append(f"# {TrainConfig.model_fields[name].description}")
        option = option_of(name)
        lines.append(f"# {option} =" if value is None else f"{option} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML, whose strings, numbers and lists are JSON's, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
