"""A client of TensorFlow Serving, unmodified, against a real server: with the numbers of the
native API, and those that TensorFlow computes from the same SavedModel.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tests.foreign_clients.scripts import run_client
from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import serve
from tests.support.reference_model import assert_close

DOCUMENT = "docs/tensorflow-serving.md"
# By the examples of each chapter.
PRINTED = {
    "With requests": ["2 2", "17", "1 2"],
    "KServe's client": ["True True", "3 2", "17"],
}
LENGTHS = (3, 70, 25)
CUT = 2
SEQUENCES = [raw_sequence(np.random.default_rng(length), length) for length in LENGTHS]
# As clients of TensorFlow Serving send them: of equal length.
PADDED = np.zeros((len(LENGTHS), max(LENGTHS), 4), np.float32)
for _row, _sequence in enumerate(SEQUENCES):
    PADDED[_row, : len(_sequence)] = _sequence


def bodies(states: list[dict[str, Any]]) -> dict[str, Any]:
    """What is sent. `states` are those after `CUT` time steps, by the names of their tensors."""
    padded = [to_json(sequence) for sequence in PADDED]
    plain = [to_json(sequence) for sequence in SEQUENCES]
    rest = [sequence[CUT:] for sequence in plain]
    rows = zip(padded, LENGTHS, strict=True)
    columns = {name: [state[name] for state in states] for name in states[0]}
    return {
        "padded rows": {"instances": [{"sequences": s, "lengths": n} for s, n in rows]},
        "padded columns": {"inputs": {"sequences": padded, "lengths": list(LENGTHS)}},
        "rows": {"instances": [{"sequences": sequence} for sequence in plain]},
        "columns": {"inputs": plain},
        "rows that go on": {
            "instances": [{"sequences": s, **state} for s, state in zip(rest, states, strict=True)]
        },
        "columns that go on": {"inputs": {"sequences": rest, **columns}},
    }


def by_tensor(manifest: dict[str, Any], state: list[dict[str, Any]]) -> dict[str, Any]:
    """A state of the native API by the names of its tensors."""
    return {
        part["tensor"]: entry[part["name"]]
        for layer, entry in zip(manifest["layers"], state, strict=True)
        for part in layer["states"]
    }


@pytest.fixture(scope="module")
def manifest(models_dir: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((models_dir / "mixed" / "1" / "manifest.json").read_text())
    return made


@pytest.fixture(scope="module")
def answers(
    models_dir: Path, manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Of the client, of KServe's as `kserve`, and of the native API as `native`; and what the
    examples of the documentation print, as `documented`."""
    folder = tmp_path_factory.mktemp("client")
    with (
        serve(models_dir, "mixed", folder / "log", workers=2, max_chunk_steps=16) as server,
        server.client() as client,
    ):

        def native(sequences: list[np.ndarray]) -> dict[str, Any]:
            answer = client.post("/predict", json={"sequences": [to_json(s) for s in sequences]})
            assert answer.status_code == 200, answer.text
            made: dict[str, Any] = answer.json()
            return made

        states = native([sequence[:CUT] for sequence in SEQUENCES])["states"]
        sent = folder / "bodies.json"
        sent.write_text(json.dumps(bodies([by_tensor(manifest, state) for state in states])))
        url = f"{server.url}/v1/models/mixed"
        made: dict[str, Any] = run_client("tfserving_requests.py", url, str(sent))
        made["native"] = native(SEQUENCES)
        made["kserve"] = run_client("kserve_v1.py", server.url, "mixed", str(sent))
        host = f"127.0.0.1:{server.port}"
        made["documented"] = {
            chapter: run_client("documented.py", DOCUMENT, chapter, host, "mixed")
            for chapter in PRINTED
        }
        assert server.counter("unroll_sequences_running") == 0.0
    return made


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer row by row, whichever way it was asked."""
    if "predictions" in answer:
        rows: list[dict[str, Any]] = answer["predictions"]
        return rows
    columns = answer["outputs"]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("way", ["rows", "columns"])
def test_every_way_to_ask_has_the_numbers_of_the_native_api(answers, manifest, way) -> None:
    native = answers["native"]
    for kind, start in {way: 0, f"padded {way}": 0, f"{way} that go on": CUT}.items():
        found = rows_of(answers["predictions"][kind])
        assert len(found) == len(LENGTHS)
        for row, length in enumerate(LENGTHS):
            message = f"{kind}, row {row}"
            outputs = np.array(found[row]["outputs"])
            assert_close(outputs[: length - start], native["outputs"][row][start:], message)
            padding = max(LENGTHS) - length if "padded" in kind else 0
            assert len(outputs) == length - start + padding
            assert not np.any(outputs[length - start :]), message
            states = by_tensor(manifest, native["states"][row])
            assert found[row].keys() == {"outputs", *states}
            for tensor, state in states.items():
                assert_close(found[row][tensor], np.array(state), f"{message}: {tensor}")


@pytest.mark.parametrize("way", ["padded rows", "padded columns"])
def test_padded_sequences_are_answered_as_the_saved_model_does(answers, models_dir, way) -> None:
    """Shape by shape: TensorFlow Serving computes `serving_default` and prints what comes out."""
    loaded = tf.saved_model.load(str(models_dir / "mixed" / "1"))
    expected = loaded.signatures["serving_default"](
        sequences=tf.constant(PADDED), lengths=tf.constant(LENGTHS, tf.int32)
    )
    rows = rows_of(answers["predictions"][way])
    assert rows[0].keys() == expected.keys()
    for name, tensor in expected.items():
        found = np.array([row[name] for row in rows])
        assert found.shape == tuple(tensor.shape), name
        assert_close(found, tensor.numpy(), name)


def test_a_version_and_a_label_are_the_same_model(answers) -> None:
    """On an idle server, so to the last bit."""
    for answer in (*answers["targets"], answers["data"]):
        assert answer == answers["predictions"]["padded rows"]


def test_the_status_is_that_of_a_version_that_answers(answers) -> None:
    status = {"error_code": "OK", "error_message": ""}
    version = {"version": "1", "state": "AVAILABLE", "status": status}
    assert answers["status"] == [{"model_version_status": [version], "ready": True}] * 3


def test_the_metadata_are_those_of_the_saved_model(answers, models_dir) -> None:
    """But for the names that tensors have in the graph, which no client needs."""
    saved = SavedModel.FromString((models_dir / "mixed" / "1" / "saved_model.pb").read_bytes())
    signature = MessageToDict(
        saved.meta_graphs[0].signature_def["serving_default"],
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    for tensors in (signature["inputs"], signature["outputs"]):
        for name, tensor in tensors.items():
            tensor["name"] = f"{name}:0"
    expected = {
        "model_spec": {"name": "mixed", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
    assert answers["metadata"] == [expected] * 3


def test_errors_are_texts_that_clients_can_show(answers) -> None:
    statuses, texts = zip(*answers["errors"], strict=True)
    assert statuses == (400, 400, 404, 404, 404, 404)
    for text, word in zip(
        texts, ("neither", "line 1", "classify", "99", "another-name", "canary"), strict=True
    ):
        assert word in text


def test_kserves_client_gets_the_same_without_being_told_of_a_protocol(answers) -> None:
    """On an idle server, so to the last bit."""
    kserve = answers["kserve"]
    assert (kserve["live"], kserve["model_ready"]) == (True, True)
    assert kserve["answers"] == answers["predictions"]
    statuses, texts = zip(*kserve["errors"], strict=True)
    assert statuses == (404, 400, 404)
    assert texts[0].startswith("there is no model 'nobody', '404 Not Found'")
    assert texts[1].startswith("must have either instances or inputs, got neither, '400 Bad")
    assert texts[2].startswith("there is no verb ':explain'; there is ':predict', '404 Not")


@pytest.mark.parametrize("chapter", PRINTED)
def test_the_examples_of_the_documentation_work(answers, chapter) -> None:
    assert answers["documented"][chapter] == PRINTED[chapter]
