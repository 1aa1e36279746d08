"""The command line of `python -m model.train`."""

import argparse
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from model.config import TrainConfig


@dataclass(frozen=True)
class Command:
    """What is asked for.

    Attributes:
        config: how to train.
        only_if_missing: whether to train only if there is no model yet.
        explain_placement: whether to print where the layers would go, and end.
    """

    config: TrainConfig
    only_if_missing: bool = False
    explain_placement: bool = False


def parse_arguments(arguments: Sequence[str] | None = None) -> Command:
    """Reads the command line; each field of `TrainConfig` is an option."""
    parser = argparse.ArgumentParser(
        prog="python -m model.train",
        description="Train a deep recurrent network and export it as a SavedModel.",
    )
    for name, field in TrainConfig.model_fields.items():
        flag, default = f"--{name.replace('_', '-')}", field.default
        many = typing.get_origin(field.annotation) is tuple
        shown = " ".join(map(str, default)) if many else default
        known = "" if default is None else f" (default: {shown})"
        help_text = f"{field.description}{known}".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        elif many:
            parser.add_argument(flag, nargs="+", metavar=name.upper(), help=help_text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=help_text)
    parser.add_argument(
        "--only-if-missing",
        action="store_true",
        help="do nothing where a version is exported already",
    )
    parser.add_argument(
        "--explain-placement",
        action="store_true",
        help="print which layer goes where and what it costs, and end",
    )
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    switches = {name: given.pop(name) for name in ("only_if_missing", "explain_placement")}
    try:
        config = TrainConfig.model_validate(given)
        config.layer_configs()
    except ValidationError as error:
        first = error.errors()[0]
        flag = str(first["loc"][0]).replace("_", "-")
        parser.error(f"--{flag}: {first['msg']}, but got {first['input']!r}")
    except ValueError as error:
        parser.error(f"--layers: {error}")
    return Command(config, **switches)
