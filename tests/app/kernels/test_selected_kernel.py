"""A choice is read as it was written, whole or not at all."""

from pathlib import Path
from typing import Any

import pytest

from app.kernels.selected_kernel import Choice


@pytest.mark.parametrize(
    "choice",
    [
        Choice("tensorflow"),
        Choice("onnxruntime", (b"\0\xff graph",)),
        Choice("bfloat16", (b"before", b"", b"after")),
        Choice("cudnn"),
        Choice("refused", reason="why"),
    ],
)
def test_a_choice_is_read_as_it_was_written(tmp_path: Path, choice: Choice) -> None:
    folder = tmp_path / "not" / "there"
    assert Choice.read(folder) is None
    choice.write(folder)
    assert Choice.read(folder) == choice
    Choice("tensorflow").write(folder)
    assert Choice.read(folder) == Choice("tensorflow")


def test_a_choice_that_was_cut_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", fail)
        with pytest.raises(OSError, match="disk full"):
            Choice("onnxruntime", (b"graph",)).write(tmp_path)
    assert Choice.read(tmp_path) is None
