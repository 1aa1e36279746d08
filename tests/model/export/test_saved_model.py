"""Exports: which version, what is in the folder, and nothing at all when something fails."""

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tensorflow as tf

from app.manifest import verified_manifest
from model.export.manifest import file_digests, write_manifest
from model.export.saved_model import export_model
from model.export.versions import existing_versions
from model.network.sequence_model import SequenceModel
from tests.model.children import pool
from tests.support.exported_models import make_model, no_card


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    return make_model(("gru:3",))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, model: SequenceModel) -> Path:
    def write_card(folder: Path, manifest: dict[str, Any]) -> None:
        (folder / "README.md").write_text("# Card of ünits\n", encoding="utf-8")
        (folder / "pictures").mkdir()
        (folder / "pictures" / "curve.png").write_bytes(bytes(range(256)))

    details = {"description": "Grüße", "metrics": {"error": 0.5}}
    return export_model(model, tmp_path_factory.mktemp("models"), "tiny", details, write_card)


@pytest.fixture
def quick() -> Any:
    """Exports without the SavedModel: for what does not depend on it, a hundred times faster."""

    def save(exported: object, folder: str, **options: object) -> None:
        (Path(folder) / "saved_model.pb").write_bytes(b"graph")

    def add_graph(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
        (folder / "chunk.onnx").write_bytes(b"graph")
        state = [[0.0] * sum(layer["units"] for layer in manifest["layers"])]
        steps = {"inputs": [[[0.0] * 4]], "outputs": [[[0.0] * 2]]}
        return {"tolerance": 1e-5, "initial_state": state, "final_state": state, **steps}

    with (
        mock.patch("tensorflow.saved_model.save", save),
        mock.patch("model.export.saved_model.ExportedModel"),
        mock.patch("model.export.saved_model.add_chunk_graph", add_graph),
    ):
        yield


def names(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


@pytest.mark.usefixtures("quick")
def test_versions_count_up_from_one(model: SequenceModel, tmp_path: Path) -> None:
    made = [export_model(model, tmp_path, "tiny", {}, no_card) for _ in range(11)]
    assert made == [tmp_path / "tiny" / str(number) for number in range(1, 12)]
    assert existing_versions(tmp_path / "tiny") == list(range(1, 12)), "as numbers: 2 before 10"
    assert [verified_manifest(folder).version for folder in made] == list(range(1, 12))


@pytest.mark.usefixtures("quick")
def test_names_count_apart(model: SequenceModel, tmp_path: Path) -> None:
    export_model(model, tmp_path, "one", {}, no_card)
    assert export_model(model, tmp_path, "other", {}, no_card).name == "1"


@pytest.mark.usefixtures("quick")
def test_the_next_version_follows_the_largest(model: SequenceModel, tmp_path: Path) -> None:
    """A version that was removed is not given again while a later one stands."""
    for name in ("3", "41", "latest", "v50", "60.old"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
    assert export_model(model, tmp_path, "tiny", {}, no_card).name == "42"


@pytest.mark.usefixtures("quick")
def test_a_file_with_a_number_for_its_name_is_not_in_the_way(
    model: SequenceModel, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "1").write_text("a note")
    assert existing_versions(tmp_path / "tiny") == []
    assert export_model(model, tmp_path, "tiny", {}, no_card).name == "2"
    assert (tmp_path / "tiny" / "1").read_text() == "a note"


def test_no_folder_has_no_version(tmp_path: Path) -> None:
    assert existing_versions(tmp_path / "none") == []


@pytest.mark.usefixtures("quick")
def test_a_folder_left_over_is_removed_and_does_not_count(
    model: SequenceModel, tmp_path: Path
) -> None:
    left = tmp_path / "tiny" / ".export-7"
    (left / "variables").mkdir(parents=True)
    (left / "manifest.json").write_text("{")
    (left / "variables" / "variables.index").write_bytes(b"half")
    assert existing_versions(left.parent) == []
    assert export_model(model, tmp_path, "tiny", {}, no_card).name == "1"
    assert names(left.parent) == {"1"}


@pytest.mark.usefixtures("quick")
def test_a_card_that_fails_leaves_no_version_and_the_next_export_is_whole(
    model: SequenceModel, tmp_path: Path
) -> None:
    def fail(folder: Path, manifest: dict[str, Any]) -> None:
        (folder / "README.md").write_text("# Half")
        raise RuntimeError("no ink")

    with pytest.raises(RuntimeError, match="no ink"):
        export_model(model, tmp_path, "tiny", {}, fail)
    home = tmp_path / "tiny"
    assert existing_versions(home) == []
    assert names(home) == set()
    folder = export_model(model, tmp_path, "tiny", {}, no_card)
    assert names(home) == {"1"}
    assert verified_manifest(folder).version == 1


NO_SPACE = os.strerror(errno.ENOSPC)


def test_a_full_disk_is_no_want_of_memory(model: SequenceModel, tmp_path: Path) -> None:
    """TensorFlow has one error for both; what Python raises in the middle of a file names none."""

    def save(*_: object, **options: object) -> None:
        tf.io.write_file("/dev/full", tf.constant("a" * 100_000))

    with (
        mock.patch("tensorflow.saved_model.save", save),
        mock.patch("model.export.saved_model.ExportedModel"),
        pytest.raises(OSError, match=f"{tmp_path / 'tiny'} cannot be written: .*{NO_SPACE}"),
    ):
        export_model(model, tmp_path, "tiny", {}, no_card)
    assert names(tmp_path / "tiny") == set(), "what fills the disk is left"


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_full_before_the_card_is_written_is_named(
    model: SequenceModel, tmp_path: Path
) -> None:
    def fail(folder: Path, manifest: dict[str, Any]) -> None:
        with open("/dev/full", "w") as full:
            full.write("# Card")

    with pytest.raises(OSError, match=f"{tmp_path / 'tiny'} cannot be written: {NO_SPACE}"):
        export_model(model, tmp_path, "tiny", {}, fail)


@pytest.mark.usefixtures("quick")
def test_a_number_that_json_cannot_hold_leaves_no_version(
    model: SequenceModel, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="nan"):
        export_model(model, tmp_path, "tiny", {"metrics": float("nan")}, no_card)
    assert existing_versions(tmp_path / "tiny") == []


def test_the_manifest_lists_every_file_with_its_sha256_and_size(exported: Path) -> None:
    listed = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))["files"]
    found = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert set(listed) == found - {"manifest.json", "manifest.sha256"}
    assert {"saved_model.pb", "variables/variables.index", "pictures/curve.png"} <= set(listed)
    assert "chunk.onnx" in listed
    for name, entry in listed.items():
        content = (exported / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert entry == {"sha256": digest, "bytes": len(content)}


def test_sha256sum_accepts_the_checksum_of_the_manifest(exported: Path, tmp_path: Path) -> None:
    command = ["sha256sum", "--strict", "-c", "manifest.sha256"]
    done = subprocess.run(command, cwd=exported, capture_output=True, text=True, check=True)
    assert done.stdout == "manifest.json: OK\n"
    for name in ("manifest.json", "manifest.sha256"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    with (tmp_path / "manifest.json").open("a") as file:
        file.write(" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


def test_the_manifest_tells_what_the_model_is(exported: Path, model: SequenceModel) -> None:
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["format"], manifest["name"], manifest["version"]) == ("unroll/2", "tiny", 1)
    assert [f["name"] for f in manifest["features"]] == [f.name for f in model.features]
    assert [o["name"] for o in manifest["outputs"]] == [o.name for o in model.outputs_spec]
    assert manifest["layers"] == [
        {
            "cell": "gru",
            "units": 3,
            "activation": "tanh",
            "device": "CPU:0",
            "states": [{"name": "h", "tensor": "state_0_h"}],
        }
    ]
    assert manifest["dtype"] == "float32"
    assert set(manifest["libraries"]) == {"tensorflow", "keras", "numpy"}
    assert (manifest["description"], manifest["metrics"]) == ("Grüße", {"error": 0.5})
    assert verified_manifest(exported).description == "Grüße"


def test_an_empty_file_has_a_digest_too(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    write_manifest(tmp_path, {})
    entry = file_digests(tmp_path)["empty"]
    assert entry == {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}


@pytest.mark.usefixtures("quick")
def test_every_file_and_folder_is_flushed_before_the_rename_and_the_rename_after(
    model: SequenceModel, tmp_path: Path
) -> None:
    """A kill cannot show this, only a power cut: so the order of calls is what is tested."""
    home, events = tmp_path / "tiny", []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> Path:
        assert set(events) == {source, *source.rglob("*")}
        events.append("rename")
        return rename(source, target)

    with mock.patch("os.fsync", noted_fsync), mock.patch("pathlib.Path.rename", noted_rename):
        export_model(model, tmp_path, "tiny", {}, no_card)
    assert events[-3:] == ["rename", home, tmp_path]


def slow_card(folder: Path, manifest: dict[str, Any]) -> None:
    """Long enough that the other export begins meanwhile."""
    time.sleep(0.5)
    no_card(folder, manifest)


def export_when_ready(models_dir: Path, count: int) -> Path:
    """Exports as soon as so many processes are about to."""
    model = make_model(("gru:3",))
    (models_dir / f"ready-{os.getpid()}").touch()
    wait_for(models_dir, count)
    return export_model(model, models_dir, "tiny", {}, slow_card)


def wait_for(models_dir: Path, count: int) -> None:
    while len(list(models_dir.glob("ready-*"))) < count:
        time.sleep(0.01)


def test_two_exports_at_the_same_time_give_two_whole_versions(tmp_path: Path) -> None:
    with pool(2) as processes:
        made = list(processes.map(export_when_ready, [tmp_path] * 2, [2] * 2))
    assert sorted(made) == [tmp_path / "tiny" / "1", tmp_path / "tiny" / "2"]
    assert [verified_manifest(folder).version for folder in sorted(made)] == [1, 2]
    assert names(tmp_path / "tiny") == {"1", "2"}


def test_an_export_waits_for_the_lock_and_goes_on_once_its_holder_is_gone(tmp_path: Path) -> None:
    home = tmp_path / "tiny"
    home.mkdir()
    holder = os.open(home, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pool(1) as processes:
        made = processes.submit(export_when_ready, tmp_path, 1)
        wait_for(tmp_path, 1)
        time.sleep(0.5)  # the hidden folder is made in the first milliseconds
        assert names(home) == set()
        os.close(holder)
        assert made.result(timeout=60) == home / "1"
