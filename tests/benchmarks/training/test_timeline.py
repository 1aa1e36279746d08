from pathlib import Path

import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from benchmarks.training import timeline
from benchmarks.training.trace import host_events, read


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Two operations of layers, one that is compiled, and one of nobody."""
    space = XSpace()
    plane = space.planes.add(name="/host:CPU")
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
    spans = timeline.spans_of(host_events(read(trace / "pipelined")))
    assert spans == {(1, 2, False): [(6.0, 8.0)], (3, 0, True): [(9.0, 10.0)]}


def test_the_timeline_is_drawn(trace: Path) -> None:
    timeline.draw(trace, ("pipelined", "layer after layer"), trace / "picture.png")
    assert (trace / "picture.png").read_bytes().startswith(b"\x89PNG")
