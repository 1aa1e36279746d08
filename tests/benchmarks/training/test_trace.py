from pathlib import Path

import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XPlane, XSpace

from benchmarks.training import trace


def _line(plane: XPlane, name: str, events: list[tuple[str, float, float, str]]) -> None:
    line = plane.lines.add(name=name, timestamp_ns=1_000_000)
    plane.stat_metadata[1].name = "kernel_annotation"
    for title, start_ms, end_ms, annotation in events:
        number = len(plane.event_metadata) + 1
        plane.event_metadata[number].name = title
        event = line.events.add(
            metadata_id=number,
            offset_ps=int(start_ms * 1e9),
            duration_ps=int((end_ms - start_ms) * 1e9),
        )
        event.stats.add(metadata_id=1, str_value=annotation)


@pytest.fixture
def space() -> XSpace:
    """Two streams of a card, what sums them up, and a thread of the host."""
    found = XSpace()
    gpu = found.planes.add(name="/device:GPU:0")
    _line(
        gpu,
        "Stream #13(Kernel,MemcpyH2D)",
        [
            ("MemcpyH2D", 0, 1, ""),
            ("LSTM_elementWise", 1, 3, "layer_0_chunk_0/CudnnRNNV3:CudnnRNNV3"),
            ("sgemm", 2, 4, "layer_1_chunk_0/CudnnRNNV3:CudnnRNNV3"),
            ("MemcpyD2H", 8, 10, ""),
        ],
    )
    _line(gpu, "Stream #20(Kernel)", [("sgemm", 3.5, 6, "layer_2_chunk_0_gradient/x:x")])
    _line(gpu, "TensorFlow Ops", [("all", 0, 99, "layer_0_chunk_0/x:x")])
    _line(found.planes.add(name="/host:CPU"), "thread", [("op", 0, 5, "layer_3_chunk_1/a")])
    return found


def test_a_trace_tells_copies_from_kernels(space: XSpace, tmp_path: Path) -> None:
    (tmp_path / "host.xplane.pb").write_bytes(space.SerializeToString())
    events = trace.card_events(trace.read(tmp_path))
    assert len(events) == 5
    assert trace.milliseconds(events) == pytest.approx(
        {"to_card": 1.0, "kernels": 5.0, "to_host": 2.0}
    )


def test_a_trace_tells_when_two_devices_are_busy_at_once(space: XSpace) -> None:
    devices = {0: "GPU:0", 1: "GPU:0", 2: "GPU:1", 3: "GPU:1"}
    busy = trace.by_device(trace.card_events(space), devices)
    assert {name: trace.length(each) for name, each in busy.items()} == pytest.approx(
        {"GPU:0": 3.0, "GPU:1": 2.5}
    )
    assert trace.common(*busy.values()) == pytest.approx(0.5)
    host = trace.by_device(trace.host_events(space), devices)
    assert {name: trace.length(each) for name, each in host.items()} == {"GPU:0": 0, "GPU:1": 5}
