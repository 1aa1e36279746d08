import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.gpu import gpu_info


@pytest.fixture
def _nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says a card's name, or how busy it is again and again."""
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "*-lms*) while :; do echo 40; echo '[N/A]'; echo 60; sleep 0.05; done;;\n"
        "*) echo 'A Card, 580.1, 81559 MiB, 700.00 W, 1980 MHz';;\n"
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("_nvidia_smi")
def test_how_busy_the_card_is_is_a_mean() -> None:
    assert gpu_info.ask_card() == dict(
        zip(gpu_info.QUERY, ("A Card", "580.1", "81559 MiB", "700.00 W", "1980 MHz"), strict=True)
    )
    busy = gpu_info.Busy()
    try:
        while busy.last(60.0) is None:
            time.sleep(0.01)
        time.sleep(0.2)
        assert busy.last(60.0) == pytest.approx(0.5, abs=0.1)
        assert busy.last(0.0) is None
    finally:
        busy.close()


def test_without_a_card_nothing_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert str(gpu_info.ask_card()).startswith("FileNotFoundError")
    busy = gpu_info.Busy()
    assert busy.last(60.0) is None
    busy.close()


def test_a_card_that_tensorflow_cannot_ask_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *given, **named: subprocess.CompletedProcess([], 1, "", "a\nImportError: no\n"),
    )
    with pytest.raises(gpu_info.NoGpu, match="^ImportError: no$"):
        gpu_info.look()
