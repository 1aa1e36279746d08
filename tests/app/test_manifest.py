"""A model folder is served whole or not at all: every byte of it is checked."""

import json
import random
import shutil
from pathlib import Path

import pytest

from app.errors import ModelRefused
from app.manifest import Manifest, verified_manifest
from tests.app.fakes import describe_file, write_manifest, write_version

# Besides the first and the last byte of each file.
POSITIONS_A_FILE = 3


STANDARDIZE = {"kind": "standardize", "mean": 0.0, "std": 1.0}
H = {"name": "h", "tensor": "state_0_h"}


def whole_copy(models_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(models_dir / "mixed" / "1", to / "mixed" / "1"))


def files_of(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def refused(folder: Path) -> str:
    with pytest.raises(ModelRefused) as caught:
        verified_manifest(folder)
    return str(caught.value)


def named_in_refusal(name: str) -> str:
    """A manifest and its checksum accuse each other."""
    return "manifest.sha256" if name == "manifest.json" else name


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mixed"])
def test_what_was_exported_is_verified(models_dir: Path, name: str) -> None:
    manifest = verified_manifest(models_dir / name / "1")
    assert (manifest.name, manifest.version, manifest.dtype) == (name, 1, "float32")
    assert [feature.missing for feature in manifest.features] == [False, True, True, False]
    assert [output.name for output in manifest.outputs] == ["temp_1h", "humid"]
    cells = {"rnn": ("rnn", "rnn"), "mixed": ("lstm", "gru", "rnn", "lstm")}
    assert tuple(layer.cell for layer in manifest.layers) == cells.get(name, (name, name))


def test_every_file_of_an_export_is_under_a_checksum(models_dir: Path) -> None:
    folder = models_dir / "mixed" / "1"
    covered = {"manifest.json", "manifest.sha256", *verified_manifest(folder).files}
    assert covered == set(files_of(folder))


def test_one_flipped_byte_anywhere_is_refused(models_dir: Path, tmp_path: Path) -> None:
    folder = whole_copy(models_dir, tmp_path)
    draw = random.Random(0)
    names = files_of(folder)
    assert {"saved_model.pb", "chunk.onnx", "variables/variables.index", "README.md"} <= set(names)
    for name in names:
        path = folder / name
        good = path.read_bytes()
        for position in {
            0,
            len(good) - 1,
            *(draw.randrange(len(good)) for _ in range(POSITIONS_A_FILE)),
        }:
            bad = bytearray(good)
            bad[position] ^= 1 << draw.randrange(8)
            path.write_bytes(bad)
            assert named_in_refusal(name) in refused(folder), (name, position)
        path.write_bytes(good)
    # What was put back is whole again: it was the flipped byte each time.
    assert isinstance(verified_manifest(folder), Manifest)


def test_a_truncated_or_longer_file_is_refused(models_dir: Path, tmp_path: Path) -> None:
    folder = whole_copy(models_dir, tmp_path)
    for name in files_of(folder):
        path = folder / name
        good = path.read_bytes()
        for bad in (good[:-1], b"", good + b"\n"):
            path.write_bytes(bad)
            message = refused(folder)
            assert named_in_refusal(name) in message
            if "manifest." not in name:
                assert message.endswith(f"{len(bad)} bytes, not the {len(good)} of the manifest")
        path.write_bytes(good)


def test_a_removed_file_is_refused(models_dir: Path, tmp_path: Path) -> None:
    folder = whole_copy(models_dir, tmp_path)
    for name in files_of(folder):
        path = folder / name
        hidden = path.rename(tmp_path / "hidden")
        assert refused(folder) == f"{path}: No such file or directory"
        hidden.rename(path)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "tiny", 1)
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").mkdir()
    assert "weights.bin" in refused(folder)


@pytest.mark.parametrize("name", ["extra.py", "variables/variables.data-00001-of-00002"])
def test_a_file_that_the_manifest_does_not_name_is_refused(
    models_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = whole_copy(models_dir, tmp_path)
    (folder / name).write_text("who put it there?")
    assert refused(folder) == f"{folder / name} is not in the manifest"


def test_what_file_managers_leave_behind_is_passed_over(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "tiny", 1)
    (folder / ".DS_Store").write_text("nothing reads it")
    assert verified_manifest(folder).version == 1


@pytest.mark.parametrize("place", ["tiny/2", "tiny/01", "other/1"])
def test_a_renamed_folder_is_refused(tmp_path: Path, place: str) -> None:
    folder = write_version(tmp_path / "tiny", 1)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    moved = folder.rename(tmp_path / place)
    assert refused(moved) == f"{moved} holds the manifest of tiny version 1"


@pytest.mark.parametrize("way", ["../outside", "../../outside", "{absolute}", "a/../../outside"])
def test_a_manifest_that_names_a_file_outside_is_refused(tmp_path: Path, way: str) -> None:
    home = tmp_path / "tiny"
    folder = write_version(home, 1)
    for outside in (home / "outside", tmp_path / "outside"):
        outside.write_text("right size and checksum")
    name = way.format(absolute=home / "outside")
    (folder / "a").mkdir()
    change_manifest(folder, files={name: describe_file(home / "outside")})
    assert refused(folder).endswith(f"names {name!r}, which is outside of the folder")


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "tiny", 1)
    outside = (folder / "weights.bin").rename(tmp_path / "outside")
    (folder / "weights.bin").symlink_to(outside)
    assert "outside of the folder" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"format": "unroll/3"}, "format"),
        ({"dtype": "float64"}, "dtype"),
        ({"version": "one"}, "version"),
        ({"features": []}, "features"),
        ({"outputs": []}, "outputs"),
        ({"layers": []}, "layers"),
        ({"layers": [{"cell": "lstn", "units": 1, "states": []}]}, "layers.0.cell"),
        ({"layers": [{"cell": "rnn", "units": 0, "states": []}]}, "layers.0.units"),
        ({"files": None}, "files"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    tmp_path: Path, changes: dict[str, object], place: str
) -> None:
    folder = write_version(tmp_path / "tiny", 1, **changes)
    assert refused(folder).startswith(f"{folder / 'manifest.json'}: {place}: ")


@pytest.mark.parametrize(
    ("transform", "fault", "value"),
    [
        (None, "transform: Input should be an object", "None"),
        ({}, "transform: Unable to extract tag using discriminator 'kind'", "{}"),
        ({"kind": "log"}, "transform: Input tag 'log' found using 'kind'", "{'kind': 'log'}"),
        # Only an output can be a change.
        ({"kind": "change"}, "transform: Input tag 'change' found", "{'kind': 'change'}"),
        ({"kind": "cyclic"}, "transform.cyclic.period: Field required", "{'kind': 'cyclic'}"),
        ({"kind": "cyclic", "period": 0}, "transform.cyclic.period: Input should be gr", "0"),
        ({**STANDARDIZE, "std": -1.0}, "transform.standardize.std: Input should be gr", "-1.0"),
        ({**STANDARDIZE, "mean": float("nan")}, "transform.standardize.mean: Input", "nan"),
    ],
)
def test_a_transform_that_is_unknown_or_incomplete_is_refused(
    tmp_path: Path, transform: object, fault: str, value: str
) -> None:
    feature = {"name": "x", "unit": "1", "transform": transform}
    folder = write_version(tmp_path / "tiny", 1, features=[feature])
    message = refused(folder)
    assert message.startswith(f"{folder / 'manifest.json'}: features.0.{fault}")
    assert message.endswith(f", but got {value}")


def test_a_change_of_a_feature_that_is_not_there_is_refused(tmp_path: Path) -> None:
    change = {**STANDARDIZE, "kind": "change", "feature": "y"}
    folder = write_version(
        tmp_path / "tiny", 1, outputs=[{"name": "sum", "unit": "1", "transform": change}]
    )
    assert refused(folder).startswith(
        f"{folder / 'manifest.json'}: outputs: output 'sum' is a change of 'y', "
        "which is not among the features, but got "
    )


def test_a_state_that_its_cell_has_not_is_refused(tmp_path: Path) -> None:
    layers = [{"cell": "lstm", "units": 1, "states": [H]}]
    folder = write_version(tmp_path / "tiny", 1, layers=layers)
    assert "layers.0: the states of 'lstm' are h, c, not h, but got " in refused(folder)


def test_the_value_of_a_refusal_is_short(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "tiny", 1, dtype="float" * 1000)
    assert len(refused(folder)) < 300 + len(str(folder))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"a": "\xff"}', b"[" * 10_000])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: bytes) -> None:
    folder = write_version(tmp_path / "tiny", 1)
    (folder / "manifest.json").write_bytes(text)
    digest = describe_file(folder / "manifest.json")["sha256"]
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
    assert "manifest.json" in refused(folder)


def test_fields_of_a_later_time_are_passed_over(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "tiny", 1, colour="blue")
    assert verified_manifest(folder).version == 1


def change_manifest(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {**manifest, **changes})
