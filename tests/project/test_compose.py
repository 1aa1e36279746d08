"""`docker-compose.yml` passes the service's settings on, and starts for CPUs or for GPUs."""

import re
from pathlib import Path

import pytest

from app.__main__ import DELIVERY_S
from app.settings import Settings

COMPOSE = Path("docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = Path("Dockerfile").read_text(encoding="utf-8")
# What the container has its own of, and what is mounted and published depends on.
OF_THE_IMAGE = {"UNROLL_HOST", "UNROLL_PORT", "UNROLL_MODELS_DIR"}


def services() -> dict[str, dict[str, str]]:
    """What each service says itself: key to value, the lines of a longer value as one text."""
    (block,) = re.findall(r"^services:\n((?:^(?:  .*)?\n)+)", COMPOSE, re.MULTILINE)
    found = {}
    for name, lines in re.findall(r"^  ([\w-]+):.*\n((?:^(?:    .*)?\n)+)", block, re.MULTILINE):
        keys = re.findall(r"^    ([\w<]+):(.*\n(?:^(?:      .*)?\n)*)", lines, re.MULTILINE)
        found[name] = {key: value.strip() for key, value in keys}
    return found


def environment() -> list[str]:
    """The entries of `serve`."""
    # Nothing else has any of its own, so what it has is what `serve-gpu` has.
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
    notice_s, drain_s = (
        Settings.model_fields[name].default for name in ("stop_notice_s", "drain_timeout_s")
    )
    assert int(grace_s) > notice_s + drain_s + DELIVERY_S


def test_cpus_and_gpus_are_never_started_together() -> None:
    """A service without a profile would start with every other one, and have the port."""
    profiles = {name: service["profiles"] for name, service in services().items()}
    assert profiles == {
        **{"train": "[cpu]", "serve": "[cpu]"},
        **{"train-gpu": "[gpu]", "serve-gpu": "[gpu]"},
    }
    # `docker compose up` takes it from here, and `--profile gpu` in its place.
    (active,) = re.findall(r"^COMPOSE_PROFILES=(.*)$", Path(".env").read_text(), re.MULTILINE)
    assert active == "cpu"


def test_a_service_waits_for_the_training_of_its_own_profile() -> None:
    done = "{condition: service_completed_successfully}"
    assert services()["serve"]["depends_on"] == f"train: {done}"
    assert services()["serve-gpu"]["depends_on"] == f"train-gpu: {done}"


@pytest.mark.parametrize("name", ["train", "serve"])
def test_on_gpus_only_the_image_and_the_cards_differ(name: str) -> None:
    """Port, settings, volumes and hardening are those of the CPU's service."""
    on_gpus = services()[f"{name}-gpu"]
    assert on_gpus.keys() - {"depends_on"} == {"<<", "profiles", "build", "deploy"}
    assert on_gpus["<<"] == f"*{name}"
    assert f"  {name}: &{name}\n    <<: *hardened\n" in COMPOSE
    assert services()[name]["build"] == f"{{context: ., target: {name}}}"
    assert on_gpus["build"] == f'{{context: ., target: {name}, args: {{GPU: "1"}}}}'
    assert on_gpus["deploy"] == "*gpus"


def test_cards_are_reserved() -> None:
    (devices,) = re.findall(
        r"^x-gpus: &gpus\n  resources:\n    reservations:\n      devices: (.*)$",
        COMPOSE,
        re.MULTILINE,
    )
    assert devices == "[{driver: nvidia, count: all, capabilities: [gpu]}]"


def test_images_stand_on_one_layer_of_cuda() -> None:
    base, *images = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    install = "pip install --no-cache-dir --require-hashes -r locks/gpu.txt"
    installs = f'if [ -n "$GPU" ]; then {install}; fi'
    # An argument that is not named in the stage would be empty there.
    assert base.index("\nARG GPU=\n") < base.index(f"\nRUN {installs}\n")
    assert [image.partition("\n")[0] for image in images] == [
        *("base AS train", "base AS serve-base"),
        *("serve-base AS serve-slim", "serve-base AS serve"),
    ]


def test_the_base_and_every_package_are_pinned_by_their_hashes() -> None:
    (base,) = re.findall(r"^FROM (python:\S+) AS base$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base)
    installs = re.findall(r"pip install ([^;\n]*)", DOCKERFILE)
    locks = [install.removeprefix("--no-cache-dir --require-hashes -r ") for install in installs]
    assert locks == [f"locks/{image}.txt" for image in ("gpu", "train", "serve-slim", "serve")]
    assert "COPY locks locks\n" in DOCKERFILE
    assert "!locks" in Path(".dockerignore").read_text().splitlines()
