"""`docker-compose.yml` passes the service's settings on, those that are set."""

import re
from pathlib import Path

from app.__main__ import DELIVERY_S
from app.settings import Settings

COMPOSE = Path("docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = Path("Dockerfile").read_text(encoding="utf-8")
# What the container has its own of, and what is mounted and published depends on.
OF_THE_IMAGE = {"UNROLL_HOST", "UNROLL_PORT", "UNROLL_MODELS_DIR"}


def environment() -> list[str]:
    """The entries of `serve`."""
    (block,) = re.findall(r"^    environment:\n((?:^      .*\n)+)", COMPOSE, re.MULTILINE)
    entries = [line.strip() for line in block.splitlines() if not line.strip().startswith("#")]
    assert all(entry.startswith("- UNROLL_") for entry in entries)
    return [entry.removeprefix("- ") for entry in entries]


def test_every_setting_of_the_service_is_passed_on() -> None:
    names = [entry.partition("=")[0] for entry in environment()]
    settings = {f"UNROLL_{name.upper()}" for name in Settings.model_fields}
    assert sorted(names) == sorted(settings - OF_THE_IMAGE)


def test_a_setting_that_is_not_set_stays_so() -> None:
    """A name alone passes on what is set; a value, an empty one too, would always be passed on."""
    with_values = [entry for entry in environment() if "=" in entry]
    default = Settings.model_fields["model"].default
    # `train` makes the model that `serve` looks for.
    assert with_values == [f"UNROLL_MODEL=${{UNROLL_MODEL:-{default}}}"]
    assert f"--name ${{UNROLL_MODEL:-{default}}}" in COMPOSE


def test_what_the_image_sets_is_not_unset() -> None:
    """A name alone that is not set would take the image's own value away."""
    (line,) = re.findall(r"^ENV (UNROLL_.*)$", DOCKERFILE, re.MULTILINE)
    assert {entry.partition("=")[0] for entry in line.split()} <= OF_THE_IMAGE


def test_a_stop_leaves_time_to_drain() -> None:
    (grace_s,) = re.findall(r"stop_grace_period: \$\{UNROLL_STOP_GRACE:-(\d+)s\}", COMPOSE)
    assert int(grace_s) > Settings.model_fields["drain_timeout_s"].default + DELIVERY_S
