"""Writes `models/<name>/<version>/`: SavedModel, `chunk.onnx`, manifest and model card."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tensorflow as tf

from model.export.chunk_graph import add_chunk_graph
from model.export.manifest import describe_model, file_digests, state_tensor, write_manifest
from model.export.versions import next_version
from model.layers.implementations import Form
from model.network.pipeline import StackState
from model.network.sequence_model import SequenceModel

CELL_WEIGHTS = ("kernel", "recurrent_kernel", "bias")


class ExportedModel(tf.Module):  # type: ignore[misc]  # tensorflow has no type information
    """The SavedModel's object: two signatures over the same weights.

    `serving_default`: `sequences [B,T,F]`, `lengths [B]` -> `outputs [B,T,O]` and each state.
    `chunk`: the same plus each layer's initial state, compiled with XLA: the whole where all layers
    are on one device, else each layer by itself, since XLA cannot compile across devices.

    `weights` names the variables for whoever builds another kernel from the checkpoint:
    `layer_0/kernel`, `layer_0/recurrent_kernel`, `layer_0/bias`, ..., `head/kernel`, `head/bias`;
    `embedding_2/table` of the third feature, where it is one.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.weights = {
            f"layer_{index}": {name: getattr(cell, name).value for name in CELL_WEIGHTS}
            for index, cell in enumerate(model.rnn.cells)
        }
        for index, table in model.embeddings.items():
            self.weights[f"embedding_{index}"] = {"table": table.value}
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
        ValueError: `chunk.onnx` does not compute what the SavedModel does.
    """
    with next_version(models_dir / name) as (folder, number):
        _save(ExportedModel(model), folder)
        manifest = {
            "name": name,
            "version": number,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **describe_model(model),
            **details,
        }
        probe = add_chunk_graph(folder, manifest)
        write_card(folder, manifest)
        write_manifest(folder, {**manifest, "probe": probe, "files": file_digests(folder)})
    return models_dir / name / str(number)


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
