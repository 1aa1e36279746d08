"""`chunk.onnx` computes what the SavedModel does, or there is no export."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.cell_spec import CELL_SPECS, OnnxOperator
from model.export import chunk_graph
from model.export.chunk_graph import ChunkDiffers, add_chunk_graph, chunks, read_network
from model.export.manifest import CHUNK
from model.export.versions import existing_versions
from tests.support.exported_models import export


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


@pytest.mark.parametrize("model", ["rnn", "lstm", "gru", "mixed"])
def test_the_probe_is_short_and_gives_the_same_float32_again(models_dir: Path, model: str) -> None:
    folder = models_dir / model / "1"
    manifest = manifest_of(folder)
    *_, (_, (inputs, lengths, state)) = chunks(read_network(folder, manifest))
    probe = manifest["probe"]
    assert 0 in lengths, "a row without time steps"
    assert np.isnan(inputs).any(), "a feature that is missing"
    assert [len(row) for row in probe["inputs"]] == list(lengths)
    for row, length in enumerate(lengths):
        found = np.array(probe["inputs"][row], np.float32).reshape(length, 4)
        np.testing.assert_array_equal(found, inputs[row, :length])
    np.testing.assert_array_equal(np.array(probe["initial_state"], np.float32), state)
    assert len(json.dumps(probe)) < 12_000
    # One line, among some hundred others.
    assert (folder / "manifest.json").read_text().count("\n") < 200


def test_what_is_compared_has_lengths_and_states_of_all_kinds(models_dir: Path) -> None:
    folder = models_dir / "lstm" / "1"
    compared = [chunk for _, chunk in chunks(read_network(folder, manifest_of(folder)))]
    assert {inputs.shape[0] for inputs, _, _ in compared} >= {1, 7, 11}
    assert len({inputs.shape[1] for inputs, _, _ in compared}) >= 3
    lengths = [(lengths, inputs.shape[1]) for inputs, lengths, _ in compared]
    assert any((each == steps).all() for each, steps in lengths)
    assert any(len(set(each)) > 1 and each.all() for each, _ in lengths)
    assert any(not each.all() for each, _ in lengths)
    assert any(not each.any() for each, _ in lengths)
    assert {bool(state.any()) for _, _, state in compared} == {False, True}


def swap_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = ("input", "forget", "output", "new")
    specs: Any = CELL_SPECS
    monkeypatch.setitem(specs, "lstm", replace(specs["lstm"], onnx=OnnxOperator("LSTM", gates)))


def change_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    right = chunk_graph.read_network

    def wrong(*arguments: Any) -> Any:
        network = right(*arguments)
        network.weights["head/bias"][0] += 0.01  # type: ignore[index]
        return network

    monkeypatch.setattr(chunk_graph, "read_network", wrong)


@pytest.mark.parametrize("make_wrong", [swap_gates, change_a_bias])
def test_a_model_whose_graph_computes_something_else_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_wrong: Any
) -> None:
    make_wrong(monkeypatch)
    message = f"{CHUNK} does not compute what the SavedModel does: .* differ by .* time steps"
    with pytest.raises(ChunkDiffers, match=message):
        export(tmp_path, ("lstm:4",), "wrong")
    assert existing_versions(tmp_path / "wrong") == []


def test_a_row_without_time_steps_that_lost_its_state_would_be_seen(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ONNX Runtime's operators do by themselves."""
    right = chunk_graph.run_onnx

    def forgetful(graph: bytes) -> Any:
        run = right(graph)

        def wrong(chunk: Any) -> Any:
            outputs, state = run(chunk)
            return outputs, np.where(chunk[1][:, np.newaxis] > 0, state, 0.0)

        return wrong

    monkeypatch.setattr(chunk_graph, "run_onnx", forgetful)
    folder = models_dir / "rnn" / "1"
    manifest = manifest_of(folder)
    (tmp_path / "variables").symlink_to((folder / "variables").resolve())
    (tmp_path / "saved_model.pb").symlink_to((folder / "saved_model.pb").resolve())
    with pytest.raises(ChunkDiffers, match="some zero lengths"):
        add_chunk_graph(tmp_path, manifest)
