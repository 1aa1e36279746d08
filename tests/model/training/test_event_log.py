"""TensorBoard's files: what its reader finds there."""

import struct
from pathlib import Path

import pytest
import tensorflow as tf

from model.training.event_log import EventLog


def events(folder: Path) -> list[tf.compat.v1.Event]:
    """Of the files of a folder, each record without its checksums, which TensorFlow checks."""
    (path,) = folder.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack_from("<Q", data)
        found.append(tf.compat.v1.Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_each_curve_has_its_points(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "logs" / "first")
    for update in (10, 20):
        log.write(update, loss=update / 4, learning_rate=0.5)
    head, *points = events(tmp_path / "logs" / "first")
    assert head.file_version == "brain.Event:2"
    found = [
        (event.step, value.tag, tf.make_ndarray(value.tensor).item())
        for event in points
        for value in event.summary.value
    ]
    assert found == [
        (10, "loss", 2.5), (10, "learning_rate", 0.5),
        (20, "loss", 5.0), (20, "learning_rate", 0.5),
    ]  # fmt: skip
    (value,) = points[0].summary.value
    assert value.metadata.plugin_data.plugin_name == "scalars"


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    EventLog(None).write(1, loss=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        EventLog(tmp_path / "file" / "logs")
