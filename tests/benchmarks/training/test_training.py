"""The page of the training benchmark: ratios, tables, and a timeline from a trace."""

from pathlib import Path

import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from benchmarks.training import __main__ as training
from benchmarks.training import timeline
from benchmarks.training.schedules import AfterEachOther, layer_after_layer
from model.config import LayerConfig
from model.layers.cells import CELLS
from model.layers.recurrence import Recurrence
from model.network.pipeline import Pipeline


def test_a_ratio_is_the_median_over_rounds_of_pairs() -> None:
    """A phase in which the machine is twice as slow leaves it as it is."""
    found = {"Unroll": [1.0, 2.0, 1.0], "Keras": [3.0, 6.0, 2.0]}
    assert training.ratios(found, "Unroll") == {"Unroll": 1.0, "Keras": 3.0}
    lines = training.table(found, "training").splitlines()
    assert lines[2:] == ["| Unroll | 1000 |  |", "| Keras | 3000 | 3.00 |"]


def test_servers_are_compared_with_the_first() -> None:
    cells = [
        {"server": name, "rounds": rounds, "per_second": rounds[1], "p50_ms": 5.0, "p99_ms": 9.0}
        for name, rounds in (("two", (30.0, 40.0, 50.0)), ("one", (20.0, 20.0, 20.0)))
    ]
    lines = training.serving_table(cells).splitlines()
    assert lines[2:] == ["| two | 40 | 5 | 9 |  |", "| one | 20 | 5 | 9 | 2.00 |"]


def test_the_page_has_every_figure() -> None:
    three = {way: [1.0] for way in training.WAYS}
    cell = {"server": "s", "rounds": [7.0], "per_second": 7.0, "p50_ms": 1.0, "p99_ms": 2.0}
    about = {"cores": 3, "cpu": "a processor"}
    text = training.page({"Unroll": [1.0], "Keras": [2.0]}, three, three, [cell], about, "abcdef")
    assert "from commit `abcdef`, on\n3 cores of a processor" in text
    assert "| Keras | 2000 | 2.00 |" in text
    assert text.count("| layer after layer | 1000 | 1.00 |") == 2
    assert f"]({training.PICTURE})" in text
    assert "| s | 7 | 1 | 2 |  |" in text


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two operations of layers, one that is compiled, and one of nobody."""
    space = XSpace()
    plane = space.planes.add()
    plane.stat_metadata[1].name = "name"
    names = ["layer_1_chunk_2/MatMul:MatMul", "ExecutorState::ProcessAsync::Start", "Other"]
    for index, name in enumerate(names):
        plane.event_metadata[index].name = name
    line = plane.lines.add(timestamp_ns=5_000_000)
    line.events.add(metadata_id=0, offset_ps=1_000_000_000, duration_ps=2_000_000_000)
    compiled = line.events.add(metadata_id=1, offset_ps=4_000_000_000, duration_ps=1_000_000_000)
    compiled.stats.add(metadata_id=1, str_value="layer_3_chunk_0_gradient/PartitionedCall")
    line.events.add(metadata_id=2, offset_ps=0, duration_ps=9_000_000_000)
    for name in ("pipelined", "layer after layer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vm.xplane.pb").write_bytes(space.SerializeToString())
    return tmp_path


def test_a_timeline_has_the_operations_of_layers(trace: Path) -> None:
    spans = timeline.read(trace / "pipelined")
    assert spans == {(1, 2, False): [(6.0, 8.0)], (3, 0, True): [(9.0, 10.0)]}


def test_the_timeline_is_drawn(trace: Path) -> None:
    timeline.draw(trace, ("pipelined", "layer after layer"), trace / "picture.png")
    assert (trace / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_layers_after_each_other_wrap_every_form_of_a_layer() -> None:
    """What the pipeline is compared with has to be what the pipeline makes of the layers."""
    config = LayerConfig(cell="lstm", units=2)
    cell = CELLS["lstm"](config)
    with layer_after_layer():
        (layer,) = Pipeline([cell], [None], "plain", training=False)._layers
    assert isinstance(layer, AfterEachOther)
    (layer,) = Pipeline([cell], [None], "plain", training=False)._layers
    assert isinstance(layer, Recurrence)
