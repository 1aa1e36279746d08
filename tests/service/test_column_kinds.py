"""A model with columns that are no plain numbers, served: every format, and the laws."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from app.columns import Feature
from app.manifest import Manifest, verified_manifest
from tests.support.exported_models import BASE, sequence_of_kinds
from tests.support.real_server import Server, serve
from tests.support.reference_model import Reference, assert_close
from unroll_client import Client

ARROW, NPZ = "application/vnd.apache.arrow.stream", "application/x-npz"
# Of the outputs: a change of the meter, a column of its own, one that has none.
BASES = [BASE, -BASE, 0.0]
TEXTS = {
    "sky": ["hail", "drizzle", "rain", "sun"],
    "fuel": ["coal", "gas", "oil"],
    "zone": ["a", *"pqrstu"],
}


@pytest.fixture(scope="module")
def server(kinds_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serve(kinds_dir, "kinds", log, max_chunk_steps=16, workers=1) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@pytest.fixture(scope="module")
def manifest(kinds_dir: Path) -> Manifest:
    return verified_manifest(kinds_dir / "kinds" / "1")


@pytest.fixture
def taken() -> np.ndarray:
    """A sequence as kernels take it, float32 `[40, 6]`."""
    return sequence_of_kinds(np.random.default_rng(5), 40)


def sent(feature: Feature, x: float) -> Any:
    """A value as callers send it; of code 0 one that is not known."""
    if np.isnan(x):
        return None
    if feature.kind == "flag":
        return bool(x)
    return TEXTS[feature.name][int(x)] if feature.kind == "category" else float(x) + feature.base


def rows_of(manifest: Manifest, taken: np.ndarray) -> list[list[Any]]:
    """Rows in callers' terms; what is static is in the first alone."""
    rows = [[sent(f, x) for f, x in zip(manifest.features, row, strict=True)] for row in taken]
    static = [index for index, feature in enumerate(manifest.features) if feature.static]
    for row in rows[1:]:
        for index in static:
            row[index] = None
    return rows


def expected(kinds_dir: Path, taken: np.ndarray) -> np.ndarray:
    outputs, _ = Reference(kinds_dir / "kinds" / "1")(taken)
    return np.asarray(outputs)


def assert_whole(found: Any, expected: np.ndarray) -> None:
    """Less the base, as close as float32 is; and no digit of the whole is lost."""
    assert_close(np.asarray(found, np.float64) - BASES, expected)


def predict(client: httpx.Client, sequences: Any, **options: Any) -> dict[str, Any]:
    answer = client.post("/predict", json={"sequences": sequences, **options})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_json_takes_text_and_flags_and_tells_whole_readings(
    client: httpx.Client, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    rows = rows_of(manifest, taken)
    names = [feature.name for feature in manifest.features]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    answer = predict(client, [rows, columns | {"size": rows[0][3]}], states="none")
    assert answer["dtype"] == "float64"
    for outputs in answer["outputs"]:
        assert_whole(outputs, expected(kinds_dir, taken))
    last = predict(client, [rows], outputs="last", states="none")
    assert last["outputs"] == [answer["outputs"][0][-1]]


def test_batched_equals_alone_and_pieces_equal_the_whole(
    client: httpx.Client, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    random = np.random.default_rng(1)
    others = [sequence_of_kinds(random, int(n)) for n in random.integers(1, 60, 20)]
    batch = predict(client, [rows_of(manifest, x) for x in [taken, *others]])
    for found, sequence in zip(batch["outputs"], [taken, *others], strict=True):
        assert_whole(found, expected(kinds_dir, sequence))
    outputs, states, session = [], None, {"id": "kinds", "time_step": 0}
    for piece in (taken[:7], taken[7:8], taken[8:]):
        # A piece has what is static in its own first row.
        rows = rows_of(manifest, piece)
        by_states = predict(client, [rows], initial_states=states, states="token")
        by_session = predict(client, [rows], session=session)
        states, session = by_states["states"], by_session["session"]
        np.testing.assert_array_equal(by_states["outputs"], by_session["outputs"])
        outputs += by_states["outputs"][0]
    assert_whole(outputs, expected(kinds_dir, taken))


def test_lines_and_streams_tell_whole_readings(
    client: httpx.Client, server: Server, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    rows = rows_of(manifest, taken)
    body = {"sequences": [rows], "states": "none"}
    answer = client.post("/predict", json=body, headers={"Accept": "application/x-ndjson"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    chunks = [line for line in lines if "outputs" in line]
    assert {line["dtype"] for line in chunks} == {"float64"}
    assert_whole([row for line in chunks for row in line["outputs"]], expected(kinds_dir, taken))
    with Client(server.url) as caller, caller.stream() as stream:
        # One row at a time has all of it.
        given = [[*row[:3], rows[0][3], *row[4:]] for row in rows[:9]]
        made = np.stack([stream.send(row) for row in given])
        assert made.dtype == np.float64
        assert_whole(made, expected(kinds_dir, taken[:9]))


def test_arrow_and_npz_tell_whole_readings(
    client: httpx.Client, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    rows = rows_of(manifest, taken)
    names = [feature.name for feature in manifest.features]
    table = pa.table({n: [list(c)] for n, c in zip(names, zip(*rows, strict=True), strict=True)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    asked = {"params": {"states": "none"}, "headers": {"Content-Type": ARROW, "Accept": ARROW}}
    answer = client.post("/predict", content=sink.getvalue().to_pybytes(), **asked)
    assert answer.status_code == 200, answer.text
    found = pa.ipc.open_stream(answer.content).read_all()
    assert_whole(np.stack([c[0].values for c in found.columns], 1), expected(kinds_dir, taken))

    archive = io.BytesIO()
    whole = taken.astype(np.float64)
    whole[:, 0] += BASE
    np.savez(archive, sequences=whole[np.newaxis])
    asked["headers"] = {"Content-Type": NPZ, "Accept": NPZ}
    answer = client.post("/predict", content=archive.getvalue(), **asked)
    assert answer.status_code == 200, answer.text
    outputs = np.load(io.BytesIO(answer.content))["outputs"]
    assert outputs.dtype == np.float64
    assert_whole(outputs, expected(kinds_dir, taken))


def test_float32_protocols_take_and_give_less_the_base_and_say_so(
    client: httpx.Client, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    rows = [[None if np.isnan(x) else float(x) for x in row] for row in taken]
    answer = client.post("/v1/models/kinds:predict", json={"instances": [rows]})
    assert answer.status_code == 200, answer.text
    assert_close(answer.json()["predictions"][0]["outputs"], expected(kinds_dir, taken))
    # Padding has nothing that is static.
    padded = {"sequences": [*rows, [0.0] * 6], "lengths": len(rows)}
    answer = client.post("/v1/models/kinds:predict", json={"instances": [padded]})
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["predictions"][0]["outputs"]
    assert_close(outputs, np.concatenate([expected(kinds_dir, taken), np.zeros((1, 3))]))
    tensor = {"name": "sequences", "datatype": "FP32", "shape": [1, *taken.shape], "data": [rows]}
    body = {"inputs": [tensor], "outputs": [{"name": "outputs"}]}
    answer = client.post("/v2/models/kinds/infer", json=body)
    assert answer.status_code == 200, answer.text
    data = np.array(answer.json()["outputs"][0]["data"]).reshape(len(taken), 3)
    assert_close(data, expected(kinds_dir, taken))

    loaded = tf.saved_model.load(str(kinds_dir / "kinds" / "1")).signatures["serving_default"]
    made = loaded(sequences=tf.constant(taken[np.newaxis]), lengths=tf.constant([len(taken)]))
    assert_close(made["outputs"][0], expected(kinds_dir, taken))

    features = client.get("/models").json()["models"][0]["features"]
    inputs = client.get("/v2/models/kinds").json()["inputs"]
    assert inputs[0]["parameters"]["columns"] == features
    columns = client.get("/v1/models/kinds/metadata").json()["metadata"]["columns"]
    assert columns["sequences"] == features
    meter, sky, holiday, size, fuel, zone = features
    assert (meter["kind"], meter["base"]) == ("number", BASE)
    assert (sky["kind"], sky["values"]) == ("category", ["drizzle", "rain", "sun"])
    assert (holiday["kind"], holiday["ahead"]) == ("flag", 24)
    assert size["static"] is True
    assert fuel["values"] == ["gas", "oil"]
    assert (zone["kind"], zone["values"]) == ("category", list("pqrstu"))
    assert [output.get("base", 0.0) for output in columns["outputs"]] == BASES


def test_the_example_of_each_route_is_answered(client: httpx.Client, manifest: Manifest) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if example := content.get("application/json", {}).get("example"):
            url = path.format(name="kinds", version=1, label="stable", model="kinds")
            answer = client.post(url, json=example)
            assert answer.status_code == 200, (path, answer.text)
            asked += 1
    assert asked >= 4


def test_a_frame_goes_through_the_python_client(
    server: Server, kinds_dir: Path, manifest: Manifest, taken: np.ndarray
) -> None:
    names = [feature.name for feature in manifest.features]
    rows = rows_of(manifest, taken)
    frame = pd.DataFrame(rows, columns=names).astype({"sky": "category", "fuel": "category"})
    with Client(server.url) as caller:
        info = caller.model()
        assert [f.kind for f in info.features] == [f.kind for f in manifest.features]
        made = caller.predict_one(frame)
        assert_whole(made.outputs, expected(kinds_dir, taken))
        mixed = caller.predict([rows, {**frame.drop(columns="size"), "size": rows[0][3]}])
        for outputs in mixed.outputs:
            assert_whole(outputs, expected(kinds_dir, taken))
        chunks = list(caller.predict_in_chunks([frame]))
        assert_whole(np.concatenate([c.outputs for c in chunks]), expected(kinds_dir, taken))
