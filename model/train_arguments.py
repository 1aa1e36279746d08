"""The command line of `python -m model.train`."""

import argparse
import shlex
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from model.config_file import read_options
from model.train_config import TrainConfig, flag_of, option_of, shown

# Options that say what to do, not how to train.
SWITCHES = {
    "resume": "go on with the training of this name that was interrupted, to the weights that it "
    "would have had without",
    "export_best": "export the best weights so far of a training that was interrupted or still "
    "runs, and end",
    "only_if_missing": "do nothing where a version is exported already",
    "inspect": "print what was understood of the table, its splits and the baselines' errors, and "
    "end",
    "explain_placement": "print which layer goes where and what it costs, and end",
}
WRITE_TASK = "write the task, commented and ready to edit, and end"
CONFIG = "a TOML file of options; what the command line says comes first"
BACKTEST = "train and test at so many ends of the table, one after the other, and export nothing"


@dataclass(frozen=True)
class Command:
    """What is asked for.

    Attributes:
        config: how to train; its `model_fields_set` are the options that were given.
        backtest: over how many cuts in time to try, without an export; 0 for none.
        resume: whether to go on with an interrupted training.
        export_best: whether to export what such a training has, and end.
        only_if_missing: whether to train only if there is no model yet.
        inspect: whether to print what was understood of the table, and end.
        write_task: where to write the task to, and end; or None.
        explain_placement: whether to print where the layers would go, and end.
    """

    config: TrainConfig
    backtest: int = 0
    resume: bool = False
    export_best: bool = False
    only_if_missing: bool = False
    explain_placement: bool = False
    inspect: bool = False
    write_task: Path | None = None


def shown_default(field: FieldInfo) -> str | None:
    """A field's default as it is typed; None where there is none, or it is chosen later."""
    chosen = "; default: " in str(field.description)
    return None if chosen or field.default in (None, ()) else shown(field.default)


def again(config: TrainConfig, switch: str) -> str:
    """The command that does something with the training of these options."""
    words = ["python", "-m", "model.train", "--name", str(config.name)]
    if config.models_dir != TrainConfig().models_dir:
        words += ["--models-dir", str(config.models_dir)]
    return shlex.join([*words, flag_of(switch)])


def parse_arguments(arguments: Sequence[str] | None = None) -> Command:
    """Reads the command line; each field of `TrainConfig` is an option.

    A mistake ends the process with status 2 and a line that names the option.
    """
    parser = _parser()
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    switches = {name: given.pop(name) for name in SWITCHES}
    backtest = given.pop("backtest")
    file: Path | None = given.pop("config", None)
    write_task: Path | None = given.pop("write_task", None)
    try:
        in_file = read_options(file) if file else {}
    except (OSError, ValueError) as error:
        parser.error(f"--config: {error}")
    config = _validated(parser, given, in_file, file)
    return Command(config, backtest, write_task=write_task, **switches)


def _count(text: str) -> int:
    """A number of cuts; argparse names the option where it is none."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"a number from 1 to 50, but got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.train",
        description="Train a deep recurrent network and export it as a SavedModel.",
    )
    for name, field in TrainConfig.model_fields.items():
        default = shown_default(field)
        many = typing.get_origin(field.annotation) is tuple
        known = "" if default is None else f" (default: {default})"
        how: dict[str, Any] = {"help": f"{field.description}{known}".replace("%", "%%")}
        if field.annotation is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"metavar": option_of(name).upper()} | ({"nargs": "+"} if many else {})
        parser.add_argument(flag_of(name), dest=option_of(name), **how)
    parser.add_argument("--write-task", type=Path, metavar="FILE", help=WRITE_TASK)
    parser.add_argument("--config", type=Path, metavar="FILE", help=CONFIG)
    parser.add_argument("--backtest", type=_count, metavar="N", default=0, help=BACKTEST)
    for name, help_text in SWITCHES.items():
        parser.add_argument(flag_of(name), action="store_true", help=help_text)
    return parser


def _validated(
    parser: argparse.ArgumentParser,
    given: dict[str, Any],
    in_file: dict[str, Any],
    file: Path | None,
) -> TrainConfig:
    """The options of the command line, then of the file, then the defaults."""

    def place(option: str) -> str:
        from_file = option in in_file and option not in given
        return f"{file}: {option}" if from_file else flag_of(option)

    try:
        config = TrainConfig.model_validate({**in_file, **given})
        config.layer_configs()
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # of several options together
            parser.error(first["msg"].removeprefix("Value error, "))
        parser.error(f"{place(str(first['loc'][0]))}: {first['msg']}, but got {first['input']!r}")
    except ValueError as error:
        parser.error(f"{place('layers')}: {error}")
    return config
