"""What the card did, from TensorFlow's own trace: kernels, copies, and two devices at once.

TensorFlow's profiler writes an `XSpace`: planes of devices, with a line for each stream.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XEvent, XPlane, XSpace

LAYER = re.compile(r"layer_(\d+)_chunk_\d+(?:_gradient)?/")
PS_PER_MS = 1e9
Interval = tuple[float, float]


class Event(NamedTuple):
    """Something that ran.

    Attributes:
        start, end: milliseconds.
        name: of the kernel, or of the copy.
        operation: that it is of; of what is compiled, its name stands beside the event's.
        text: all that the trace says of it.
        line: of the plane: a stream of a GPU.
    """

    start: float
    end: float
    name: str
    operation: str
    text: str
    line: str


def read(folder: Path) -> XSpace:
    """The trace that a profile has left in a folder.

    Raises:
        ValueError: there is none.
    """
    (path,) = folder.rglob("*.xplane.pb")
    space = XSpace()
    space.ParseFromString(path.read_bytes())
    return space


def card_events(space: XSpace) -> list[Event]:
    """What the GPUs ran; empty where the profiler could not see them."""
    return [
        event
        for plane in space.planes
        if plane.name.startswith("/device:GPU")
        for event in _events(plane)
        # Other lines sum up what streams did.
        if event.line.startswith("Stream")
    ]


def host_events(space: XSpace) -> list[Event]:
    """What the processor's threads ran."""
    planes = (plane for plane in space.planes if plane.name.startswith("/host:"))
    return [event for plane in planes for event in _events(plane)]


def _events(plane: XPlane) -> Iterator[Event]:
    for line in plane.lines:
        for event in line.events:
            start = line.timestamp_ns / 1e6 + event.offset_ps / PS_PER_MS
            end = start + event.duration_ps / PS_PER_MS
            name = plane.event_metadata[event.metadata_id].name
            texts = dict(_texts(plane, event))
            text = " ".join([name, *texts.values()])
            yield Event(start, end, name, texts.get("name", name), text, line.name)


def _texts(plane: XPlane, event: XEvent) -> Iterator[tuple[str, str]]:
    for stat in event.stats:
        if text := stat.str_value or plane.stat_metadata[stat.ref_value].name:
            yield plane.stat_metadata[stat.metadata_id].name, text


def milliseconds(events: Iterable[Event]) -> dict[str, float]:
    """Busy time of copies to the card and back, and of kernels; what overlaps counts once."""
    kinds: dict[str, list[Interval]] = {"to_card": [], "kernels": [], "to_host": []}
    for event in events:
        kinds[_kind(event.name.lower())].append((event.start, event.end))
    return {kind: length(union(found)) for kind, found in kinds.items()}


def _kind(name: str) -> str:
    if "memcpy" in name and ("h2d" in name or "htod" in name):
        return "to_card"
    if "memcpy" in name and ("d2h" in name or "dtoh" in name):
        return "to_host"
    # Copies within the card are its work, as kernels are.
    return "kernels"


def by_device(events: Iterable[Event], devices: Mapping[int, str]) -> dict[str, list[Interval]]:
    """When layers of each device ran; `devices` has the device of each layer."""
    found: dict[str, list[Interval]] = {device: [] for device in devices.values()}
    for event in events:
        if named := LAYER.search(event.text):
            found[devices[int(named[1])]].append((event.start, event.end))
    return {device: union(intervals) for device, intervals in found.items()}


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time in intervals that do not touch, in order."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def length(intervals: Iterable[Interval]) -> float:
    """Of intervals that do not touch."""
    return sum(end - start for start, end in intervals)


def common(a: Iterable[Interval], b: Iterable[Interval]) -> float:
    """How long both are busy."""
    return length(a) + length(b) - length(union([*a, *b]))
