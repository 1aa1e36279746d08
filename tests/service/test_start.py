"""What a service starts with: the artifact's own kernel, checked, and no TensorFlow."""

from pathlib import Path

import onnx
from onnx import numpy_helper

from app.manifest import CHUNK
from model.export.manifest import MANIFEST
from tests.support.copies import copy_of
from tests.support.exported_models import export, replace_chunk
from tests.support.real_server import serve


def has_tensorflow(pid: int) -> bool:
    return "tensorflow" in Path(f"/proc/{pid}/maps").read_text()


def test_no_process_loads_tensorflow_where_chunk_onnx_is_served(
    models_dir: Path, tmp_path: Path
) -> None:
    with serve(models_dir, "lstm", tmp_path / "log", workers=2) as server:
        processes = server.processes()
        assert len(processes) >= 3
        assert not any(map(has_tensorflow, processes))
        assert "onnxruntime" in Path(f"/proc/{server.workers()[0]}/maps").read_text()
    with serve(models_dir, "rnn", tmp_path / "log", workers=1, runner="tensorflow") as server:
        assert has_tensorflow(server.process.pid), "the search looked at the wrong place"


def test_a_version_whose_weights_were_changed_is_refused_and_the_one_before_served(
    models_dir: Path, tmp_path: Path
) -> None:
    """Its checksums are right."""
    copy_of(models_dir / "lstm" / "1", tmp_path)
    changed = export(tmp_path, ("lstm:16", "lstm:8"), "lstm")
    assert changed.name == "2"
    graph = onnx.load(changed / CHUNK)
    (layer, *_) = (node for node in graph.graph.node if node.op_type == "LSTM")
    (weights,) = (each for each in graph.graph.initializer if each.name == layer.input[1])
    array = numpy_helper.to_array(weights).copy()
    array.flat[abs(array).argmax()] *= 1.01
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    replace_chunk(changed, graph.SerializeToString())
    assert (changed / MANIFEST).is_file()
    log = tmp_path / "log"
    with serve(tmp_path, "lstm", log, workers=2) as server, server.client() as client:
        states = {each["version"]: each for each in client.get("/models").json()["models"]}
    assert (states[2]["state"], states[1]["state"]) == ("refused", "ready")
    assert "does not give the numbers of the manifest's probe" in states[2]["reason"]
