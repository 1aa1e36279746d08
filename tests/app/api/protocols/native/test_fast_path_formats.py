"""The direct way of bytes and of `/v2` against FastAPI's: nobody can tell them apart."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.api.protocols.open_inference.binary_tensors import HEADER
from app.codec import arrow, npz
from tests.app.api.test_fast_path import LIMIT, OVERFLOW, body_of, both, live_of
from tests.app.formats import stream_of
from tests.app.live import Live
from tests.app.open_inference import IN_BYTES, MODEL, NUMBERS, ONE, SEQUENCES
from tests.app.running_service import Loader

COLUMNS = dict.fromkeys(("temp", "pressure", "wind_dir", "hour"), pa.array([[1.0, 2.0], [3.0]]))
ARROW, NPZ = arrow.MEDIA_TYPE, npz.MEDIA_TYPE


@pytest.fixture(scope="module", params=[0, 1], ids=["loop", "thread"])
def live(request: pytest.FixtureRequest, tiny_dir: Path) -> Iterator[Live]:
    loader = Loader(overflow=OVERFLOW)
    with live_of(tiny_dir, loader, max_body_bytes=LIMIT, lanes=request.param) as live:
        live.run(live.ready())
        yield live


def archive(value: float = 1.0) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, sequences=np.full((1, 3, 4), value, np.float32))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("body", "given", "wanted", "query", "status"),
    [
        (stream_of(COLUMNS), ARROW, ARROW, "", 200),
        (stream_of(COLUMNS), ARROW.title(), "application/json", "?outputs=last", 200),
        (archive(), NPZ, NPZ, "?states=token", 200),
        (archive(), NPZ, f"text/csv, {NPZ}, {ARROW}", "?states=none", 200),
        (body_of(), "application/json", ARROW, "", 200),
        (stream_of(COLUMNS), ARROW, ARROW, "?colour=red", 422),
        (stream_of(COLUMNS)[:-9], ARROW, ARROW, "", 422),
        (archive(OVERFLOW), NPZ, NPZ, "", 422),
        (body_of(), NPZ, NPZ, "", 422),
    ],
)
def test_both_ways_give_the_same_bytes(
    live: Live, body: bytes, given: str, wanted: str, query: str, status: int
) -> None:
    lines = (f"Content-Type: {given}", f"Accept: {wanted}")
    before = len(live.direct)
    direct, pieces = both(live, body, *lines, path=f"/predict{query}")
    assert len(live.direct) == before + 1
    assert direct.status == status, direct.body
    assert direct.raw == pieces.raw


def infer(tensor: dict[str, Any], raw: bytes = b"", **others: Any) -> tuple[bytes, str]:
    """A body, and the header that says how much of it is JSON."""
    text = json.dumps({"inputs": [tensor], **others}).encode()
    return text + raw, f"{HEADER}: {len(text)}"


@pytest.mark.parametrize(
    ("body", "line", "status"),
    [
        (*infer(SEQUENCES), 200),
        (*infer(SEQUENCES, id="7", parameters={"binary_data_output": True}), 200),
        (*infer(IN_BYTES, NUMBERS.tobytes()), 200),
        (*infer(ONE, parameters={"timeout": 50_000_000}), 200),
        (*infer(ONE, parameters={"sequence_id": 7}), 400),
        (*infer(IN_BYTES, NUMBERS.tobytes()[1:]), 400),
        (*infer(IN_BYTES, np.full_like(NUMBERS, OVERFLOW).tobytes()), 400),
        (infer(SEQUENCES)[0], f"{HEADER}: x", 400),
        (infer(SEQUENCES)[0], f"{HEADER}:", 400),
        (b"{", "X: y", 400),
    ],
)
def test_both_ways_of_the_open_inference_protocol_are_one(
    live: Live, body: bytes, line: str, status: int
) -> None:
    before = len(live.direct)
    direct, pieces = both(live, body, line, path=f"{MODEL}/infer")
    assert len(live.direct) == before + 1
    assert direct.status == pieces.status == status, direct.body
    assert direct.body == pieces.body
    assert direct.headers == pieces.headers


def test_a_version_or_another_model_is_left_to_the_application(live: Live) -> None:
    body, line = infer(SEQUENCES)
    before = len(live.direct)
    for path, status in ((f"{MODEL}/versions/1", 200), ("/v2/models/other", 404)):
        assert both(live, body, line, path=f"{path}/infer")[0].status == status
    assert len(live.direct) == before
