"""Settings: read from the environment, refused by name, listed by `--help`."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app import __main__
from app import settings as settings_module
from app.settings import Settings, available_cores


def name_of(field: str) -> str:
    return f"UNROLL_{field.upper()}"


@pytest.fixture(autouse=True)
def _nothing_set_and_nothing_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(name_of(field), raising=False)
    monkeypatch.setattr("sys.argv", ["app"])
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(__main__, "serve", lambda _: pytest.fail("the service was started"))


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("models_dir", "/srv/models", Path("/srv/models")),
        ("model", "tiny", "tiny"),
        ("host", "0.0.0.0", "0.0.0.0"),
        ("port", "0", 0),
        ("max_body_bytes", "1000", 1000),
        ("max_sequences", "1", 1),
        ("max_sequence_steps", "7", 7),
        ("max_waiting_sequences", "256", 256),
        ("max_waiting_steps", "2560000", 2_560_000),
        ("body_timeout_s", "0.5", 0.5),
        ("request_timeout_s", "5", 5.0),
        ("drain_timeout_s", "1e1", 10.0),
        ("runner", "onnxruntime", "onnxruntime"),
        ("runner", "cudnn", "cudnn"),
        ("tensor_float_32", "true", True),
        ("sessions_url", "redis://:secret@localhost:7777/2", "redis://:secret@localhost:7777/2"),
        ("max_sessions", "5", 5),
        ("session_idle_s", "0.5", 0.5),
        ("workers", "5", 5),
        ("lanes", "3", 3),
        ("slots_per_lane", "4096", 4096),
        ("max_chunk_steps", "16", 16),
    ],
)
def test_the_environment_overrides_a_default(
    monkeypatch: pytest.MonkeyPatch, field: str, text: str, value: object
) -> None:
    assert getattr(Settings(), field) != value
    monkeypatch.setenv(name_of(field), text)
    assert getattr(Settings(), field) == value


BAD = [
    ("port", "abc"),
    ("port", "-1"),
    ("port", "65536"),
    ("max_body_bytes", "0"),
    ("max_sequences", "1.5"),
    ("max_sequence_steps", ""),
    ("max_waiting_sequences", "-1"),
    ("body_timeout_s", "0"),
    ("request_timeout_s", "nan"),
    # Waiting for longer than a thread can wait would fail at the end, in `drain`.
    ("drain_timeout_s", "inf"),
    ("drain_timeout_s", "1e300"),
    ("runner", "torch"),
    ("model", ""),
    ("model", "a/b"),
    ("model", "../weather"),
    ("sessions_url", "memcached://localhost"),
    ("sessions_url", "memory://x"),
    ("sessions_url", "redis://localhost:abc"),
    ("sessions_url", "redis://localhost:70000"),
    ("sessions_url", "rediss://localhost/0?colour=red"),
    ("max_sessions", "0"),
    ("session_idle_s", "0"),
    ("workers", "-1"),
    ("workers", "1025"),
    ("lanes", "-1"),
    ("slots_per_lane", "-1"),
    ("slots_per_lane", "4097"),
    ("tensor_float_32", "maybe"),
    ("max_chunk_steps", "0"),
]


@pytest.mark.parametrize(("field", "text"), BAD)
def test_a_bad_value_is_refused(monkeypatch: pytest.MonkeyPatch, field: str, text: str) -> None:
    monkeypatch.setenv(name_of(field), text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize(("field", "text"), BAD)
def test_the_command_names_the_setting_that_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], field: str, text: str
) -> None:
    monkeypatch.setenv(name_of(field), text)
    assert __main__.main() == 2
    printed = capsys.readouterr().err
    assert f"error: {name_of(field)}: " in printed
    assert f"got {text!r}" in printed


def test_every_bad_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNROLL_PORT", "abc")
    monkeypatch.setenv("UNROLL_LANES", "many")
    assert __main__.main() == 2
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in printed] == ["UNROLL_PORT", "UNROLL_LANES"]


def test_workers_are_as_set_or_one_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "accelerator_present", lambda: False)
    monkeypatch.setattr(settings_module, "available_cores", lambda: 7)
    assert Settings(workers=3).num_workers == 3
    assert Settings(workers=0).num_workers == 7


def test_beside_an_accelerator_there_is_one_worker_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each would load the model onto the same device."""
    device = tmp_path / "nvidiactl"
    monkeypatch.setattr(settings_module, "ACCELERATORS", (tmp_path / "kfd", device))
    monkeypatch.setattr(settings_module, "available_cores", lambda: 7)
    assert Settings().num_workers == 7
    device.touch()
    assert Settings().num_workers == 1
    assert Settings(workers=3).num_workers == 3


def test_why_there_is_one_worker_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "accelerator_present", lambda: True)
    assert Settings().beside_accelerator
    assert not Settings(workers=1).beside_accelerator
    assert not Settings(logical_devices=2).beside_accelerator
    monkeypatch.setattr(settings_module, "accelerator_present", lambda: False)
    assert not Settings().beside_accelerator


def test_settings_do_not_change_once_they_are_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_help_lists_every_setting_with_default_and_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app", "--help"])
    with pytest.raises(SystemExit) as caught:
        __main__.parse_arguments()
    assert caught.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for field, info in Settings.model_fields.items():
        place = lines.index(f"{name_of(field)}={info.default}")
        assert lines[place + 1] == info.description
        assert info.description


def test_an_argument_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["app", "--port=1"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 2
    assert "--port=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"max_waiting_sequences": 10, "max_sequences": 11},
            "UNROLL_MAX_SEQUENCES=11 is more than UNROLL_MAX_WAITING_SEQUENCES=10",
        ),
        (
            {"max_waiting_steps": 99, "max_sequences": 10, "max_sequence_steps": 10},
            "UNROLL_MAX_SEQUENCES=10 times UNROLL_MAX_SEQUENCE_STEPS=10 is more than "
            "UNROLL_MAX_WAITING_STEPS=99",
        ),
    ],
)
def test_a_request_that_could_never_be_taken_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, int],
    said: str,
) -> None:
    for field, value in settings.items():
        monkeypatch.setenv(name_of(field), str(value))
    assert __main__.main() == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("10000 100000", 1), ("max 100000", None), ("", None)],
)
def test_workers_heed_the_quota_of_a_container(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    everything = len(os.sched_getaffinity(0))
    assert available_cores(file) == (cores or everything)
    assert available_cores(tmp_path / "absent") == everything


def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNROLL_PROT", "1")
    monkeypatch.setenv("UNROLL_PORT", "1")
    assert "UNROLL_PROT" in __main__.unknown_settings()
    assert "UNROLL_PORT" not in __main__.unknown_settings()


def test_a_split_cpu_cannot_be_given_to_onnx_runtime() -> None:
    with pytest.raises(ValidationError, match="UNROLL_LOGICAL_DEVICES=2 is for TensorFlow"):
        Settings(logical_devices=2, runner="onnxruntime")
    assert Settings(logical_devices=2, runner="auto").num_workers == 1
    assert Settings(logical_devices=2, workers=3).num_workers == 3
    with pytest.raises(ValidationError, match="UNROLL_LOGICAL_DEVICES=2 is for TensorFlow"):
        Settings(logical_devices=2, runner="cudnn")


@pytest.mark.parametrize("runner", ["tensorflow", "onnxruntime", "bfloat16"])
def test_tensor_float_32_is_refused_where_no_kernel_could_use_it(runner: Any) -> None:
    message = f"UNROLL_TENSOR_FLOAT_32=true is for cuDNN, but UNROLL_RUNNER={runner}"
    with pytest.raises(ValidationError, match=message):
        Settings(tensor_float_32=True, runner=runner)
    for other in ("auto", "cudnn"):
        assert Settings(tensor_float_32=True, runner=other).tensor_float_32
