"""The command line of `python -m model.train`."""

import argparse
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from model.train_config import TrainConfig

# Options that say what to do, not how to train.
SWITCHES = {
    "only_if_missing": "do nothing where a version is exported already",
    "explain_placement": "print which layer goes where and what it costs, and end",
}


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


def flag_of(name: str) -> str:
    """The option of a field or switch."""
    return f"--{name.replace('_', '-')}"


def shown_default(field: FieldInfo) -> str | None:
    """A field's default as it is typed; None where it is chosen later."""
    if isinstance(field.default, tuple):
        return " ".join(map(str, field.default))
    return None if field.default is None else str(field.default)


def parse_arguments(arguments: Sequence[str] | None = None) -> Command:
    """Reads the command line; each field of `TrainConfig` is an option."""
    parser = argparse.ArgumentParser(
        prog="python -m model.train",
        description="Train a deep recurrent network and export it as a SavedModel.",
    )
    for name, field in TrainConfig.model_fields.items():
        flag, shown = flag_of(name), shown_default(field)
        many = typing.get_origin(field.annotation) is tuple
        known = "" if shown is None else f" (default: {shown})"
        help_text = f"{field.description}{known}".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        elif many:
            parser.add_argument(flag, nargs="+", metavar=name.upper(), help=help_text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=help_text)
    for name, help_text in SWITCHES.items():
        parser.add_argument(flag_of(name), action="store_true", help=help_text)
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    switches = {name: given.pop(name) for name in SWITCHES}
    try:
        config = TrainConfig.model_validate(given)
        config.layer_configs()
    except ValidationError as error:
        first = error.errors()[0]
        flag = flag_of(str(first["loc"][0]))
        parser.error(f"{flag}: {first['msg']}, but got {first['input']!r}")
    except ValueError as error:
        parser.error(f"--layers: {error}")
    return Command(config, **switches)
