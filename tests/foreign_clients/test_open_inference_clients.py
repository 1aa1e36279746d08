"""Unmodified clients of Triton and KServe against a real server: the same numbers as `/predict`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.foreign_clients.scripts import run_client
from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import Server, serve
from tests.support.reference_model import assert_close

MODEL = "mixed"
STATES = ["state_0_h", "state_0_c", "state_1_h", "state_2_h", "state_3_h", "state_3_c"]
LENGTHS = np.array([23, 1, 9])


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serve(models_dir, MODEL, log, runner="onnxruntime") as running:
        yield running


@pytest.fixture(scope="module")
def sequences() -> np.ndarray:
    """float32 `[3, 23, 4]`, NaN where missing."""
    random = np.random.default_rng(7)
    return np.stack([raw_sequence(random, LENGTHS.max()) for _ in LENGTHS])


@pytest.fixture(scope="module")
def arrays(sequences: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of what clients send."""
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    np.savez(path, sequences=sequences, lengths=LENGTHS)
    return str(path)


@pytest.fixture(scope="module")
def sync(server: Server, arrays: str) -> dict[str, Any]:
    told: dict[str, Any] = run_client("triton_sync.py", f"127.0.0.1:{server.port}", MODEL, arrays)
    return told


@pytest.fixture(scope="module")
def aio(server: Server, arrays: str) -> dict[str, Any]:
    told: dict[str, Any] = run_client("triton_aio.py", f"127.0.0.1:{server.port}", MODEL, arrays)
    return told


@pytest.fixture(scope="module")
def kserve(server: Server, arrays: str) -> dict[str, Any]:
    told: dict[str, Any] = run_client("kserve_rest.py", server.url, MODEL, arrays)
    return told


def predict(server: Server, rows: list[np.ndarray]) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post("/predict", json={"sequences": [to_json(row) for row in rows]})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture(scope="module")
def expected(server: Server, sequences: np.ndarray) -> dict[str, Any]:
    """What `/predict` answers to the batch."""
    return predict(server, _rows(sequences))


@pytest.fixture(scope="module")
def plain(server: Server, sequences: np.ndarray) -> dict[str, Any]:
    """What it answers where nothing is missing."""
    return predict(server, _rows(np.nan_to_num(sequences)))


def _rows(sequences: np.ndarray) -> list[np.ndarray]:
    return [row[:length] for row, length in zip(sequences, LENGTHS, strict=True)]


def assert_same(tensors: dict[str, Any], expected: dict[str, Any]) -> None:
    """Tensors of a batch against an answer of `/predict`."""
    assert list(tensors) == ["outputs", *STATES]
    for row, length in enumerate(LENGTHS):
        outputs = np.array(tensors["outputs"][row])
        assert outputs.shape == (LENGTHS.max(), 2)
        assert_close(outputs[:length], np.array(expected["outputs"][row]))
        assert not outputs[length:].any(), "padding is zeros"
        for name in STATES:
            _, layer, part = name.split("_")
            assert_close(tensors[name][row], np.array(expected["states"][row][int(layer)][part]))


@pytest.mark.parametrize("form", ["plain_binary", "plain_json", "json_in_binary_out"])
def test_tritons_client_gets_the_numbers_of_predict(
    sync: dict[str, Any], plain: dict[str, Any], form: str
) -> None:
    assert_same(sync[form], plain)


def test_nan_in_bytes_is_a_missing_value(sync: dict[str, Any], expected: dict[str, Any]) -> None:
    assert_same(sync["binary"], expected)


def test_tritons_client_gets_only_what_it_wants(
    sync: dict[str, Any], expected: dict[str, Any]
) -> None:
    ((name, values),) = sync["wanted"].items()
    assert name == "state_3_c"
    assert_close(values, np.array([state[3]["c"] for state in expected["states"]]))


def test_tritons_client_continues_from_states(
    sync: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert_close(sync["continued"]["outputs"][0], np.array(expected["outputs"][0][7:]))
    assert_close(sync["continued"]["state_1_h"][0], np.array(expected["states"][0][1]["h"]))


@pytest.mark.parametrize("key", ["number", "string"])
def test_pieces_with_a_sequence_id_go_on_where_the_last_one_stopped(
    sync: dict[str, Any], expected: dict[str, Any], key: str
) -> None:
    pieces = np.concatenate([np.array(piece)[0] for piece in sync[f"sequence_{key}"]])
    assert_close(pieces, np.array(expected["outputs"][0]))
    status, message = sync[f"ended_{key}"]
    assert status == "400"
    assert "must specify the START flag on the first request of the sequence" in message


def test_tritons_client_reads_what_the_service_says_of_itself(sync: dict[str, Any]) -> None:
    assert (sync["live"], sync["ready"], sync["model_ready"]) == (True, True, True)
    assert sync["version_ready"] == [True, False]
    assert sync["server"]["name"] == "unroll"
    assert "binary_tensor_data" in sync["server"]["extensions"]
    assert sync["id"] == "my id"
    metadata = sync["metadata"]
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["sequences", "lengths", *STATES]
    assert metadata["inputs"][0]["shape"] == [-1, -1, 4]
    assert metadata["outputs"][0] == {"name": "outputs", "datatype": "FP32", "shape": [-1, -1, 2]}
    assert metadata["outputs"][1] == {"name": "state_0_h", "datatype": "FP32", "shape": [-1, 17]}
    assert sync["config"]["input"][0]["data_type"] == "TYPE_FP32"


def test_tritons_client_understands_errors(sync: dict[str, Any]) -> None:
    errors = sync["errors"]
    assert {name: status for name, (status, _) in errors.items()} == {
        "model": "404",
        "version": "404",
        "features": "400",
        "missing": "400",
        "json_nan": "400",
        "compressed": "415",
        "statistics": "404",
        "shared_input": "400",
        "shared_output": "400",
    }
    assert errors["features"][1].endswith("must be [B, T, 4], got [1, 23, 2]")
    assert errors["missing"][1].startswith("/inputs/0: sequences[0, 0, 0]: temp is missing")
    assert "NaN and Infinity are not JSON" in errors["json_nan"][1]
    for kind in ("input", "output"):
        place = f"/{kind}s/0/parameters/shared_memory_region"
        assert errors[f"shared_{kind}"][1].startswith(f"{place}: Shared memory is not offered")


@pytest.mark.parametrize("form", ["binary", "json"])
def test_tritons_asynchronous_client_gets_the_numbers_of_predict(
    aio: dict[str, Any], plain: dict[str, Any], form: str
) -> None:
    assert aio["ready"]
    for outputs, wanted in zip(aio[form], plain["outputs"], strict=True):
        assert_close(outputs[0], np.array(wanted))


def test_tritons_asynchronous_client_sends_pieces(
    aio: dict[str, Any], plain: dict[str, Any]
) -> None:
    pieces = np.concatenate([np.array(piece)[0] for piece in aio["sequence"]])
    assert_close(pieces, np.array(plain["outputs"][0]))
    assert aio["error"][0] == "400"
    assert aio["error"][1].startswith("inference request for sequence 5 to model 'mixed' must")


@pytest.mark.parametrize("form", ["binary", "json", "binary_out"])
def test_kserves_client_gets_the_numbers_of_predict(
    kserve: dict[str, Any], plain: dict[str, Any], form: str
) -> None:
    assert_same(kserve[form], plain)
    assert_close(kserve["fp64"]["outputs"][0], np.array(plain["outputs"][0]))
    assert list(kserve["wanted"]) == ["outputs"]


def test_kserves_client_sends_pieces(kserve: dict[str, Any], plain: dict[str, Any]) -> None:
    pieces = np.concatenate([np.array(piece)[0] for piece in kserve["sequence"]])
    assert_close(pieces, np.array(plain["outputs"][0]))


def test_kserves_client_reads_what_the_service_says_of_itself(kserve: dict[str, Any]) -> None:
    assert (kserve["live"], kserve["ready"]) == (True, True)
    assert (kserve["model_ready"], kserve["other_ready"]) == (True, False)
    assert kserve["answer"] == ["mine", MODEL]
    assert "sequences: must be [B, T, 4], got [3, 23, 1], '400 Bad Request'" in kserve["error"]


@pytest.mark.parametrize(
    ("chapter", "printed"),
    [
        ("Triton's client", ["(2, 3, 2)", "(2, 17)", "(1, 3, 2)"]),
        (
            "KServe's client",
            ["outputs (1, 3, 2)", "state_0_h (1, 17)", "state_0_c (1, 17)", "state_1_h (1, 12)"]
            + ["state_2_h (1, 9)", "state_3_h (1, 5)", "state_3_c (1, 5)"],
        ),
    ],
)
def test_the_examples_of_the_documentation_work(
    server: Server, chapter: str, printed: list[str]
) -> None:
    host = f"127.0.0.1:{server.port}"
    told = run_client("documented.py", "docs/open-inference.md", chapter, host, MODEL)
    assert told == printed
