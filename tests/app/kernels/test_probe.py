"""A `chunk.onnx` that is not the model's is refused, though every checksum is right.

By its signature, or by the manifest's probe, and without TensorFlow.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.errors import ModelRefused
from app.kernels.loader import KernelLoader
from app.kernels.onnxruntime import OnnxRuntimeRunner
from app.manifest import CHUNK, verified_manifest
from tests.support.copies import copy_of

MODELS = ("rnn", "lstm", "gru", "mixed")


def load(folder: Path, home: Path, rows: int = 8, steps: int = 16) -> Any:
    return KernelLoader("auto", rows, steps, home)(folder, verified_manifest(folder))


def weights_of(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The matrices of the layers and of the head."""
    used = [
        node.input[place]
        for node in graph.graph.node
        for place in {"MatMul": (1,)}.get(node.op_type, (1, 2))
        if node.op_type in ("LSTM", "GRU", "RNN", "MatMul")
    ]
    return [each for each in graph.graph.initializer if each.name in used]


def change(tensor: onnx.TensorProto, wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    changed = wrong(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))


def a_percent_more(place: int) -> Callable[[np.ndarray], np.ndarray]:
    """Of the weight that has this place when they are ordered by their size."""

    def wrong(weights: np.ndarray) -> np.ndarray:
        weights.flat[np.argsort(np.abs(weights), axis=None)[place]] *= 1.01
        return weights

    return wrong


def refused(models_dir: Path, tmp_path: Path, model: str, graph: bytes) -> str:
    from tests.support.exported_models import replace_chunk

    folder = copy_of(models_dir / model / "1", tmp_path / "changed")
    replace_chunk(folder, graph)
    with pytest.raises(ModelRefused) as caught:
        load(folder, tmp_path)
    return str(caught.value)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("sizes", [(8, 16), (1, 16), (3, 2), (8, 1)])
def test_the_probe_is_computed_in_chunks_of_any_size(
    models_dir: Path, tmp_path: Path, model: str, sizes: tuple[int, int]
) -> None:
    assert load(models_dir / model / "1", tmp_path, *sizes).kernel == "onnxruntime"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_one_weight_that_is_one_percent_larger_is_seen(
    models_dir: Path, tmp_path: Path, model: str, part: float
) -> None:
    """In each matrix of the model, the largest and the median one. A percent of the smallest is
    less than what two machines' float32 differ by."""
    original = (models_dir / model / "1" / CHUNK).read_bytes()
    count = len(weights_of(onnx.load_model_from_string(original)))
    assert count >= 5
    for index in range(count):
        graph = onnx.load_model_from_string(original)
        tensor = weights_of(graph)[index]
        place = int(part * (np.prod(tensor.dims) - 1))
        change(tensor, a_percent_more(place))
        home = tmp_path / str(index)
        message = refused(models_dir, home, model, graph.SerializeToString())
        assert "onnxruntime does not give the numbers of the manifest's probe" in message
        assert " differ by " in message


def test_another_models_file_is_refused(models_dir: Path, tmp_path: Path) -> None:
    """Of the same cells and sizes, with other weights; and of others."""
    from tests.support.exported_models import export

    other = export(tmp_path / "other", ("lstm:16", "lstm:8"), seed=1)
    message = refused(models_dir, tmp_path / "a", "lstm", (other / CHUNK).read_bytes())
    assert "the manifest's probe: outputs differ by" in message
    message = refused(
        models_dir, tmp_path / "b", "lstm", (models_dir / "gru/1" / CHUNK).read_bytes()
    )
    assert f"{CHUNK} takes and gives" in message


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for each in (*graph.input, *graph.output):
        each.name = new if each.name == old else each.name


def drop_output(graph: onnx.GraphProto) -> None:
    del graph.output[1]


def other_type(graph: onnx.GraphProto) -> None:
    graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64


def narrow(graph: onnx.GraphProto) -> None:
    graph.input[2].type.tensor_type.shape.dim[1].dim_value -= 1


def forget_state(graph: onnx.GraphProto) -> None:
    """The layers begin with zeros."""
    for node in graph.node:
        if node.op_type == "LSTM":
            node.input[5] = node.input[6] = ""


def forget_lengths(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "LSTM":
            node.input[4] = ""


def no_number(graph: onnx.GraphProto) -> None:
    (bias,) = (each for each in graph.initializer if each.name == head_bias(graph))
    change(bias, lambda array: array * np.nan)


def head_bias(graph: onnx.GraphProto) -> str:
    (product,) = (node.output[0] for node in graph.node if node.op_type == "MatMul")
    (added,) = (node for node in graph.node if product in node.input)
    return str(added.input[1])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda graph: rename(graph, "state", "other"), "takes and gives"),
        (lambda graph: rename(graph, "outputs", "other"), "takes and gives"),
        (drop_output, "takes and gives"),
        (other_type, "ONNX Runtime cannot load"),
        (narrow, "takes and gives|cannot load"),
        (forget_state, "differ by"),
        (forget_lengths, "differ by"),
        (no_number, "outputs differ by nan"),
        (lambda graph: graph.node.remove(graph.node[0]), "ONNX Runtime cannot load"),
    ],
)
def test_a_graph_of_another_form_is_refused(
    models_dir: Path, tmp_path: Path, wrong: Callable[[onnx.GraphProto], None], told: str
) -> None:
    graph = onnx.load(models_dir / "lstm" / "1" / CHUNK)
    wrong(graph.graph)
    message = refused(models_dir, tmp_path, "lstm", graph.SerializeToString())
    assert any(words in message for words in told.split("|")), message


@pytest.mark.parametrize("graph", [b"", b"garbage" * 100])
def test_what_is_no_graph_is_refused(models_dir: Path, tmp_path: Path, graph: bytes) -> None:
    message = refused(models_dir, tmp_path, "lstm", graph)
    assert f"ONNX Runtime cannot load {CHUNK}" in message


def test_a_kernel_that_fails_on_the_probe_is_refused(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(OnnxRuntimeRunner, "run", fail)
    with pytest.raises(ModelRefused, match="cannot compute .* RuntimeError: no such operator$"):
        load(models_dir / "lstm" / "1", tmp_path)


@pytest.mark.parametrize(("error", "allowed"), [(0.01, True), (5.0, False), (np.nan, False)])
@pytest.mark.parametrize(("wrong", "what"), [(0, "outputs"), (1, "states")])
def test_a_kernel_that_rounds_has_a_looser_limit_and_tells_its_error(
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: float,
    allowed: bool,
    wrong: int,
    what: str,
) -> None:
    """Another kernel passes for bfloat16, whose library is large."""
    caplog.set_level("INFO")
    monkeypatch.setattr(OnnxRuntimeRunner, "kernel", "bfloat16")
    right = OnnxRuntimeRunner.run

    def rounded(self: OnnxRuntimeRunner, *arguments: Any) -> Any:
        results = list(right(self, *arguments))
        results[wrong] = results[wrong] + np.float32(error)
        return results

    monkeypatch.setattr(OnnxRuntimeRunner, "run", rounded)
    if allowed:
        load(models_dir / "lstm" / "1", tmp_path)
        assert "bfloat16: outputs differ from those of float32 by up to 0.0" in caplog.text
    else:
        with pytest.raises(ModelRefused, match=rf"{what} differ by .*, not 0\.25"):
            load(models_dir / "lstm" / "1", tmp_path)
