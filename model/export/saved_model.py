"""Writes `models/<name>/<version>/`: SavedModel, manifest and model card, whole or not at all.

Everything is written to a hidden sibling of the version's folder, flushed to disk, and renamed.
An export that fails, for want of space say, removes it; a process that dies on the way leaves at
most that hidden folder, which the next export removes.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tensorflow as tf

from model.export.manifest import describe_model, file_digests, state_tensor, write_manifest
from model.layers.implementations import Form
from model.network.pipeline import StackState
from model.network.sequence_model import SequenceModel

HIDDEN = ".export-"
CELL_WEIGHTS = ("kernel", "recurrent_kernel", "bias")


class ExportedModel(tf.Module):  # type: ignore[misc]  # tensorflow has no type information
    """The SavedModel's object: two signatures over the same weights.

    `serving_default`: `sequences [B,T,F]`, `lengths [B]` -> `outputs [B,T,O]` and each state.
    `chunk`: the same plus each layer's initial state, compiled with XLA: the whole where all layers
    are on one device, else each layer by itself, since XLA cannot compile across devices.

    `weights` names the variables for whoever builds another kernel from the checkpoint:
    `layer_0/kernel`, `layer_0/recurrent_kernel`, `layer_0/bias`, ..., `head/kernel`, `head/bias`.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.weights = {
            f"layer_{index}": {name: getattr(cell, name).value for name in CELL_WEIGHTS}
            for index, cell in enumerate(model.rnn.cells)
        }
        head = model.rnn.head
        self.weights["head"] = {"kernel": head.kernel.value, "bias": head.bias.value}
        self.serving_default, self.chunk = _signatures(model)


def _signatures(model: SequenceModel) -> tuple[Any, Any]:
    """The two functions. The model itself stays outside of the export: it holds the optimizer."""
    layers = model.config.layers
    one_device = len(set(model.rnn.devices())) == 1
    sequences = tf.TensorSpec([None, None, len(model.features)], tf.float32, "sequences")
    lengths = tf.TensorSpec([None], tf.int32, "lengths")
    states = {
        state_tensor(index, part): tf.TensorSpec(
            [None, layer.units], tf.float32, state_tensor(index, part)
        )
        for index, layer in enumerate(layers)
        for part in layer.spec.states
    }

    def named(outputs: tf.Tensor, final_state: StackState) -> dict[str, tf.Tensor]:
        flat = [tensor for entry in final_state for tensor in entry]
        return {"outputs": outputs, **dict(zip(states, flat, strict=True))}

    def whole(sequences: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(*model.predict_sequences(sequences, lengths))

    def chunk(sequences: tf.Tensor, lengths: tf.Tensor, **given: tf.Tensor) -> dict[str, tf.Tensor]:
        initial = tuple(
            tuple(given[state_tensor(index, part)] for part in layer.spec.states)
            for index, layer in enumerate(layers)
        )
        form: Form = "plain" if one_device else "compiled"
        return named(*model.predict_sequences(sequences, lengths, initial, form))

    return (
        tf.function(whole, autograph=False).get_concrete_function(
            sequences=sequences, lengths=lengths
        ),
        tf.function(chunk, autograph=False, jit_compile=one_device).get_concrete_function(
            sequences=sequences, lengths=lengths, **states
        ),
    )


def existing_versions(home: Path) -> list[int]:
    """The versions exported to `models/<name>`, ascending."""
    if not home.is_dir():
        return []
    return sorted(
        int(path.name) for path in home.iterdir() if path.name.isdecimal() and path.is_dir()
    )


def check_writable(models_dir: Path, name: str) -> None:
    """Makes the model's folder and tries to write there.

    Raises:
        OSError: it cannot be written.
    """
    home = models_dir / name
    home.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=home).close()


def export_model(
    model: SequenceModel,
    models_dir: Path,
    name: str,
    details: dict[str, Any],
    write_card: Callable[[Path, dict[str, Any]], None],
) -> Path:
    """Exports the model as the next free version.

    Args:
        model: trained.
        models_dir: where all models are.
        name: of the model.
        details: further entries of the manifest (metrics, example, training).
        write_card: writes the model card and its pictures into the folder it is given; it is
            called with the manifest so far.

    Returns:
        The new folder, `models_dir/name/version`.

    Raises:
        OSError: the folder cannot be written.
    """
    home = models_dir / name
    home.mkdir(parents=True, exist_ok=True)
    with _errors_that_name(home), _exclusively(home):
        for left in home.glob(f"{HIDDEN}*"):
            shutil.rmtree(left)
        number = _next_version(home)
        hidden = home / f"{HIDDEN}{number}"
        hidden.mkdir()
        with _gone_if_it_fails(hidden):
            _save(ExportedModel(model), hidden)
            manifest = {
                "name": name,
                "version": number,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                **describe_model(model),
                **details,
            }
            write_card(hidden, manifest)
            write_manifest(hidden, {**manifest, "files": file_digests(hidden)})
            _flush(hidden)
            final = home / str(number)
            hidden.rename(final)
        for folder in (home, models_dir):
            _flush_folder(folder)
    return final


def _next_version(home: Path) -> int:
    # A file of such a name is no version, but in the way of one.
    taken = (int(path.name) for path in home.iterdir() if path.name.isdecimal())
    return max(taken, default=0) + 1


def _save(exported: ExportedModel, folder: Path) -> None:
    try:
        tf.saved_model.save(
            exported,
            str(folder),
            signatures={"serving_default": exported.serving_default, "chunk": exported.chunk},
            options=tf.saved_model.SaveOptions(
                experimental_variable_policy="save_variable_devices"
            ),
        )
    except tf.errors.OpError as error:
        # Of a full disk TensorFlow says what it says of a device without memory.
        raise OSError(str(error.message).partition("\n")[0]) from error


@contextmanager
def _gone_if_it_fails(folder: Path) -> Iterator[None]:
    """Removes a folder that was not finished: what fills a disk would stay there else."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _errors_that_name(folder: Path) -> Iterator[None]:
    """Names the folder in an error of writing that names no file, as of a disk that is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error


@contextmanager
def _exclusively(home: Path) -> Iterator[None]:
    """One export of a name at a time, so that two never choose the same version.

    The lock is the kernel's: it goes with the process that holds it, however that ends.
    """
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _flush(folder: Path) -> None:
    """Puts every file and folder below on disk before the rename makes them visible."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        _flush_folder(path)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
