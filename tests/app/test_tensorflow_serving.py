"""TensorFlow Serving's REST API over a fake kernel: what can be asked and what is answered.

The fake sums up the first of the four features, exactly, into both outputs and the state.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app.fakes import write_version
from tests.app.service import Loader, Service, make_service
from tests.app.strategies import json_values

POISON = 666.0
OVERFLOW = 777.0
MODEL = "/v1/models/tiny"
TARGETS = [MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/stable", f"{MODEL}/labels/latest"]
FIRST = [[1.0, 1000.0, 90.0, 3.0], [2.0, None, None, 4.0], [3.0, 1001.0, 91.0, 5.0]]
SECOND = [[10.0, None, 0.0, 0.0]]
PADDING = [0.0, 0.0, 0.0, 0.0]
SUMS = {"outputs": [[1.0, 1.0], [3.0, 3.0], [6.0, 6.0]], "state_0_h": [6.0]}
TEN = {"outputs": [[10.0, 10.0]], "state_0_h": [10.0]}


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(POISON, OVERFLOW)) as service:
        yield service.wait_until_ready()


def predict(service: Service, body: Any, target: str = MODEL) -> httpx.Response:
    return service.post(f"{target}:predict", json=body)


def answer(service: Service, target: str = MODEL, **body: Any) -> dict[str, Any]:
    response = predict(service, body, target)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    made: dict[str, Any] = response.json()
    return made


def error(response: httpx.Response, status: int) -> str:
    """The text of an answer that is an error and nothing else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error"}
    assert isinstance(body["error"], str)
    return body["error"]


# What is computed.


@pytest.mark.parametrize("target", TARGETS)
def test_rows_are_answered_by_an_object_a_row(service: Service, target: str) -> None:
    rows = [{"sequences": FIRST}, {"sequences": SECOND}]
    assert answer(service, target, instances=rows) == {"predictions": [SUMS, TEN]}


@pytest.mark.parametrize("target", TARGETS)
def test_columns_are_answered_by_columns(service: Service, target: str) -> None:
    made = answer(service, target, inputs={"sequences": [FIRST, SECOND]})
    columns = {name: [SUMS[name], TEN[name]] for name in ("outputs", "state_0_h")}
    assert made == {"outputs": columns}


def test_sequences_may_stand_by_themselves(service: Service) -> None:
    rows = {"predictions": [SUMS, TEN]}
    assert answer(service, instances=[FIRST, SECOND]) == rows
    assert answer(service, instances=[FIRST, {"sequences": SECOND}]) == rows
    columns = answer(service, inputs=[FIRST, SECOND])
    assert columns == answer(service, inputs={"sequences": [FIRST, SECOND]})


def test_features_may_be_named(service: Service) -> None:
    names = ("temp", "pressure", "wind_dir", "hour")
    columns = dict(zip(names, zip(*FIRST, strict=True), strict=True))
    assert answer(service, instances=[{"sequences": columns}]) == {"predictions": [SUMS]}


@pytest.mark.parametrize("signature", ["serving_default", ""])
def test_the_signature_may_be_named(service: Service, signature: str) -> None:
    made = answer(service, signature_name=signature, instances=[SECOND])
    assert made == {"predictions": [TEN]}


def test_beyond_the_lengths_outputs_are_zero_and_states_are_those_before(
    service: Service,
) -> None:
    padded = [SECOND[0], [POISON, 1.0, 1.0, 1.0], PADDING]
    expected = {"outputs": [[10.0, 10.0], [0.0, 0.0], [0.0, 0.0]], "state_0_h": [10.0]}
    by_rows = answer(
        service,
        instances=[{"sequences": FIRST, "lengths": 3}, {"sequences": padded, "lengths": 1}],
    )
    assert by_rows == {"predictions": [SUMS, expected]}
    by_columns = answer(service, inputs={"sequences": [FIRST, padded], "lengths": [3, 1]})
    assert by_columns["outputs"] == {name: [SUMS[name], expected[name]] for name in expected}


def test_a_sequence_goes_on_from_the_state_of_an_answer(service: Service) -> None:
    (first,) = answer(service, instances=[FIRST[:2]])["predictions"]
    rest = {"sequences": FIRST[2:], "state_0_h": first["state_0_h"]}
    made = answer(service, instances=[rest, SECOND])
    assert made["predictions"] == [{"outputs": [[6.0, 6.0]], "state_0_h": [6.0]}, TEN]
    columns = answer(service, inputs={"sequences": [FIRST[2:], SECOND], "state_0_h": [[3], [0]]})
    assert columns["outputs"]["state_0_h"] == [[6.0], [10.0]]


def test_the_parts_of_a_state_are_put_together_by_their_names(tmp_path: Path) -> None:
    """The order in which they are sent does not matter; the packed state has the manifest's."""
    cell = {"cell": "lstm", "units": 2}
    parts = [{"name": name, "tensor": f"state_0_{name}"} for name in ("h", "c")]
    write_version(tmp_path / "tiny", 1, layers=[{**cell, "states": parts}])
    loader = Loader()
    with make_service(tmp_path, loader) as service:
        service.wait_until_ready()
        loader.runner.state_size = 4
        run, seen = loader.runner.run, []

        def remember(inputs: Any, lengths: Any, state: Any) -> Any:
            seen.append(state.tolist())
            return run(inputs, lengths, state[:, :1])[0], state + 1

        loader.runner.run = remember  # type: ignore[method-assign]
        row = {"state_0_c": [3, 4], "sequences": [[1]], "state_0_h": [1, 2]}
        (made,) = answer(service, instances=[row])["predictions"]
    assert seen == [[[1.0, 2.0, 3.0, 4.0]]]
    assert (made["state_0_h"], made["state_0_c"]) == ([2.0, 3.0], [4.0, 5.0])


def test_the_numbers_are_those_of_the_native_api(service: Service) -> None:
    sequences = [[[0.1, None, 1.0, 2.0], [1e-7, 3.0, None, 1.0]], [[3e38, 1.0, 1.0, 1.0]]]
    native = service.post("/predict", json={"sequences": sequences}).json()
    rows = answer(service, instances=sequences)["predictions"]
    assert [row["outputs"] for row in rows] == native["outputs"]
    assert [row["state_0_h"] for row in rows] == [state[0]["h"] for state in native["states"]]


# What is refused.


WHOLE = "must be a whole number from 1 to 1, the time steps that were sent, got"
NULL = "must be a number; null is not allowed here"
TOO_LARGE = "an output or state is not finite: the input is beyond what the model can compute"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "the body must be an object, got an array of 0"),
        ({}, "must have either instances or inputs, got neither"),
        (
            {"instances": [SECOND], "inputs": [SECOND]},
            "must have either instances or inputs, got both",
        ),
        ({"instances": [SECOND], "more": 1}, "/more: Extra inputs are not permitted"),
        (
            {"instances": [SECOND], "signature_name": "chunk"},
            '/signature_name: there is no signature "chunk"; there is "serving_default"',
        ),
        (
            {"instances": [SECOND], "signature_name": 1},
            "/signature_name: Input should be a valid string, got 1",
        ),
        ({"instances": None}, "/instances: must be an array of sequences, got null"),
        ({"instances": {}}, "/instances: must be an array of sequences, got an object"),
        ({"instances": []}, "/instances: must hold at least one sequence"),
        ({"instances": [SECOND] * 257}, "/instances: holds 257 sequences, the limit is 256"),
        ({"inputs": None}, "/inputs: must be an array of sequences, got null"),
        ({"inputs": []}, "/inputs: must hold at least one sequence"),
        ({"inputs": [SECOND, 1]}, "/inputs/1: must be an array of time steps, got 1"),
        ({"inputs": {}}, '/inputs: "sequences" is missing'),
    ],
)
def test_a_mistake_is_told_with_its_place(service: Service, body: Any, text: str) -> None:
    assert error(predict(service, body), 400) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (3, ": must be an array of time steps, got 3"),
        ([], ": must hold at least one time step"),
        ([[1, 2, 3]], "/0: must hold 4 features, got 3"),
        ([[None, 2, 3, 4]], f"/0/0: {NULL}"),
        ([[1e39, 2, 3, 4]], "/0/0: 1e+39 is beyond the range of float32, 3.403e+38"),
        ([[OVERFLOW, 0, 0, 0]], f": {TOO_LARGE}"),
        ([{"b64": "AA=="}], "/0: must be an array of 4 numbers, got an object"),
        ([[{"b64": "AA=="}, 1, 1, 1]], "/0/0: must be a number, got an object"),
        ({"sequences": [[1, 2]]}, "/sequences/0: must hold 4 features, got 2"),
        ({"sequences": SECOND, "lengths": 2}, f"/lengths: {WHOLE} 2"),
        ({"sequences": SECOND, "lengths": 0}, f"/lengths: {WHOLE} 0"),
        ({"sequences": SECOND, "lengths": 1.0}, f"/lengths: {WHOLE} 1.0"),
        ({"sequences": SECOND, "lengths": True}, f"/lengths: {WHOLE} true"),
        ({"sequences": SECOND, "lengths": None}, f"/lengths: {WHOLE} null"),
        ({"sequences": SECOND, "lengths": [1]}, f"/lengths: {WHOLE} an array of 1"),
        (
            {"sequences": SECOND, "state_0_h": [1, 2]},
            "/state_0_h: must be an array of 1 numbers, got an array of 2",
        ),
        ({"sequences": SECOND, "state_0_h": ["1"]}, '/state_0_h/0: must be a number, got "1"'),
        ({"sequences": SECOND, "state": [1]}, ': there is no input "state"'),
        ({"lengths": 1}, ': "sequences" is missing'),
    ],
)
def test_a_mistake_in_a_row_is_told_with_its_place(service: Service, row: Any, text: str) -> None:
    response = predict(service, {"instances": [SECOND, row]})
    assert error(response, 400) == f"/instances/1{text}"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"sequences": 1}, "/sequences: must be an array of sequences, got 1"),
        ({"sequences": []}, "/sequences: must hold at least one sequence"),
        (
            {"sequences": [SECOND, [[1, 2, 3, "x"]]]},
            '/sequences/1/0/3: must be a number, got "x"',
        ),
        ({"sequences": [SECOND, [[OVERFLOW, 0, 0, 0]]]}, f"/sequences/1: {TOO_LARGE}"),
        ({"x{}": [1]}, ': there is no input "x{}"'),
        ({"lengths": 1}, "/lengths: must be an array of 2, one entry a sequence, got 1"),
        (
            {"lengths": [1]},
            "/lengths: must be an array of 2, one entry a sequence, got an array of 1",
        ),
        ({"lengths": [1, 2]}, f"/lengths/1: {WHOLE} 2"),
        ({"state_0_h": [[1], [None]]}, f"/state_0_h/1/0: {NULL}"),
        (
            {"state_0_h": [[1], 1]},
            "/state_0_h/1: must be an array of 1 numbers, got 1",
        ),
    ],
)
def test_a_mistake_in_columns_is_told_with_its_place(
    service: Service, columns: dict[str, Any], text: str
) -> None:
    response = predict(service, {"inputs": {"sequences": [SECOND, SECOND], **columns}})
    assert error(response, 400) == f"/inputs{text}"


def test_many_unknown_inputs_are_told_in_few_words(service: Service) -> None:
    row = {"sequences": SECOND, **{f"{index}" * 200: 1 for index in range(100)}}
    assert len(error(predict(service, {"instances": [row]}), 400)) < 2000


def test_an_initial_state_has_all_of_its_parts(tmp_path: Path) -> None:
    parts = [{"name": name, "tensor": f"state_0_{name}"} for name in ("h", "c")]
    write_version(tmp_path / "tiny", 1, layers=[{"cell": "lstm", "units": 1, "states": parts}])
    text = '"state_0_c" is missing; an initial state has all of its tensors or none'
    with make_service(tmp_path) as service:
        service.wait_until_ready()
        row = {"sequences": [[1]], "state_0_h": [1]}
        assert error(predict(service, {"instances": [row]}), 400) == f"/instances/0: {text}"
        columns = {"sequences": [[[1]]], "state_0_h": [[1]]}
        assert error(predict(service, {"inputs": columns}), 400) == f"/inputs: {text}"


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances": [[[NaN, 1, 2, 3]]]}', b"\xff"])
def test_a_body_that_is_not_json_is_refused(service: Service, body: bytes) -> None:
    error(service.post(f"{MODEL}:predict", content=body), 400)


def test_more_time_steps_than_the_limit_are_refused_padded_or_not(tiny_dir: Path) -> None:
    limits = {"max_sequence_steps": 2, "max_sequences": 2}
    with make_service(tiny_dir, **limits) as service:
        service.wait_until_ready()
        row = {"sequences": SECOND * 3, "lengths": 1}
        found = error(predict(service, {"instances": [row]}), 400)
    assert found.startswith("/instances/0/sequences: holds 3 time steps, the limit is 2; ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{MODEL}:classify"),
        ("POST", f"{MODEL}:regress"),
        ("POST", f"{MODEL}/versions/1:regress"),
        ("POST", f"{MODEL}/labels/stable:classify"),
        ("POST", MODEL),
        ("POST", f"{MODEL}/metadata"),
        ("GET", f"{MODEL}/nothing"),
        ("GET", f"{MODEL}/versions"),
        ("GET", f"{MODEL}/"),
        ("GET", f"{MODEL}:predict"),
        ("GET", "/v1/models"),
        ("GET", "/v1/"),
        ("GET", "/v1"),
    ],
)
def test_another_path_is_not_found(service: Service, method: str, path: str) -> None:
    error(service.request(method, path, json={"instances": [SECOND]}), 404)


@pytest.mark.parametrize("path", [f"{MODEL}:predict", MODEL, f"{MODEL}/metadata"])
def test_another_method_is_refused(service: Service, path: str) -> None:
    assert error(service.request("DELETE", path), 405) == "Method Not Allowed"


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/v1/models/other", "there is no model 'other'"),
        ("/v1/models/tiny:more", "there is no model 'tiny:more'"),
        ("/v1/models/t%C3%AFny", "there is no model 'tïny'"),
        (f"{MODEL}/versions/2", "version 2"),
        (f"{MODEL}/versions/0", "version 0"),
        (f"{MODEL}/labels/canary", "there is no label 'canary'; there are stable and latest"),
        ("/v1/models/other/labels/stable", "there is no model 'other'"),
        ("/v1/models/other/versions/1", "model 'other'"),
    ],
)
def test_another_model_version_or_label_is_not_found(
    service: Service, target: str, text: str
) -> None:
    assert text in error(service.get(target), 404)
    assert text in error(service.get(f"{target}/metadata"), 404)
    assert text in error(predict(service, {"instances": [SECOND]}, target), 404)


@pytest.mark.parametrize("version", ["x", "-1", "1.5", str(2**63), "9" * 5000])
def test_a_version_is_a_whole_number(service: Service, version: str) -> None:
    target = f"{MODEL}/versions/{version}"
    for response in (
        service.get(target),
        service.get(f"{target}/metadata"),
        predict(service, {"instances": [SECOND]}, target),
    ):
        assert error(response, 400).startswith("/path/version: ")


def test_who_finds_the_line_full_is_told_to_come_back(tiny_dir: Path) -> None:
    loader = Loader()
    limits = {"max_waiting_sequences": 2, "max_sequences": 2}
    with make_service(tiny_dir, loader, **limits) as service:
        service.wait_until_ready()
        loader.runner.gate.clear()

        async def ask() -> httpx.Response:
            url, body = f"{MODEL}:predict", {"instances": [SECOND, SECOND]}
            waiting = asyncio.create_task(service.client.post(url, json=body))
            while not loader.runner.entered.is_set():
                await asyncio.sleep(0.001)
            refused = await service.client.post(url, json=body)
            loader.runner.gate.set()
            assert (await waiting).status_code == 200
            return refused

        refused = service.run(ask())
    error(refused, 429)
    assert refused.headers["retry-after"] == "1"


def test_a_request_that_takes_too_long_is_given_up(tiny_dir: Path) -> None:
    loader = Loader()
    with make_service(tiny_dir, loader, request_timeout_s=0.05) as service:
        service.wait_until_ready()
        loader.runner.gate.clear()
        timer = threading.Timer(30.0, loader.runner.gate.set)
        error(predict(service, {"instances": [SECOND]}), 504)
        timer.cancel()
        loader.runner.gate.set()


def test_a_kernel_that_fails_is_told_as_an_error_without_details(service: Service) -> None:
    text = error(predict(service, {"instances": [[[POISON, 0, 0, 0]]]}), 500)
    assert "poison" not in text


names = st.sampled_from(["sequences", "lengths", "state_0_h", "b64", "x"])
rows = st.lists(
    st.lists(st.integers(0, 9) | json_values, min_size=4, max_size=4) | json_values, max_size=3
)
tensors = rows | st.integers(-1, 3) | st.lists(st.integers(0, 3) | rows, max_size=3) | json_values
parts = rows | st.dictionaries(names, tensors, max_size=3) | json_values
bodies = json_values | st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name"]),
    st.lists(parts, max_size=3) | parts | st.sampled_from(["", "serving_default"]),
    max_size=2,
)


@given(body=bodies, target=st.sampled_from(TARGETS))
def test_any_body_is_answered_and_leaves_nothing_behind(
    service: Service, body: Any, target: str
) -> None:
    response = predict(service, body, target)
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        error(response, response.status_code)
    assert service.metric("unroll_sequences_running") == 0.0
    assert service.metric("unroll_sequences_waiting") == 0.0


# What is told of models.


def status(version: int, state: str, reason: str = "") -> dict[str, Any]:
    code = "UNKNOWN" if reason else "OK"
    return {
        "version": str(version),
        "state": state,
        "status": {"error_code": code, "error_message": reason},
    }


@pytest.mark.parametrize("target", TARGETS)
def test_the_status_of_a_model_that_answers(service: Service, target: str) -> None:
    response = service.get(target)
    assert response.status_code == 200
    assert response.json() == {"model_version_status": [status(1, "AVAILABLE")]}


def test_the_status_of_every_version_or_the_one_that_is_named(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write_version(tmp_path / "tiny", version)
    bad = tmp_path / "tiny" / "3" / "weights.bin"
    bad.write_bytes(b"Weights of a fake")
    loader = Loader()
    loader.gate.clear()
    with make_service(tmp_path, loader) as service:
        refused = status(3, "END", f"{bad} does not have the SHA-256 of the manifest")
        registry = service.app.state.registry
        while [model.state for model in registry.models][1:2] != ["loading"]:
            service.run(asyncio.sleep(0.001))
        states = [refused, status(2, "LOADING"), status(1, "START")]
        assert service.get(MODEL).json() == {"model_version_status": states}
        assert "being loaded" in error(service.get(f"{MODEL}/labels/stable"), 503)
        assert "being loaded" in error(service.get(f"{MODEL}/metadata"), 503)
        assert "being loaded" in error(predict(service, {"instances": [[[1]]]}), 503)
        loader.gate.set()
        service.wait_until_ready()
        states[1] = status(2, "AVAILABLE")
        assert service.get(MODEL).json() == {"model_version_status": states}
        for target, expected in {
            "versions/1": states[2],
            "versions/2": states[1],
            "versions/3": states[0],
            # Of those that were found the newest was refused.
            "labels/stable": states[1],
            "labels/latest": states[1],
        }.items():
            made = service.get(f"{MODEL}/{target}").json()
            assert made == {"model_version_status": [expected]}
        made = answer(service, f"{MODEL}/labels/latest", instances=[[[1]]])
        assert made == answer(service, f"{MODEL}/versions/2", instances=[[[1]]])
        text = error(predict(service, {"instances": [[[1]]]}, f"{MODEL}/versions/1"), 404)
        assert "version 1 is not served; version 2 is" in text


def test_a_model_without_versions_is_not_found(tmp_path: Path) -> None:
    with make_service(tmp_path) as service:
        while service.app.state.registry.loading:
            service.run(asyncio.sleep(0.001))
        assert error(service.get(MODEL), 404) == "there is no model 'tiny'"


@pytest.mark.parametrize("name", ["a:b", "a:predict", "a.b-c_d", "ü x", "models"])
def test_models_of_any_name_are_found(tmp_path: Path, name: str) -> None:
    write_version(tmp_path / name, 1)
    with make_service(tmp_path, model=name) as service:
        service.wait_until_ready()
        for target in (f"/v1/models/{name}", f"/v1/models/{name}/versions/1"):
            assert service.get(target).json() == {"model_version_status": [status(1, "AVAILABLE")]}
            assert service.get(f"{target}/metadata").json()["model_spec"]["name"] == name
            made = answer(service, target, instances=[[[1]]])
            assert made == {"predictions": [{"outputs": [[1.0]], "state_0_h": [1.0]}]}


@pytest.mark.parametrize("target", TARGETS)
def test_the_metadata_are_in_the_form_of_tensorflow_serving(service: Service, target: str) -> None:
    def tensor(name: str, dtype: str, *shape: str) -> dict[str, Any]:
        dims = [{"size": size, "name": ""} for size in shape]
        return {
            "dtype": dtype,
            "tensor_shape": {"dim": dims, "unknown_rank": False},
            "name": f"{name}:0",
        }

    signature = {
        "inputs": {
            "sequences": tensor("sequences", "DT_FLOAT", "-1", "-1", "4"),
            "lengths": tensor("lengths", "DT_INT32", "-1"),
        },
        "outputs": {
            "outputs": tensor("outputs", "DT_FLOAT", "-1", "-1", "2"),
            "state_0_h": tensor("state_0_h", "DT_FLOAT", "-1", "1"),
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert service.get(f"{target}/metadata").json() == {
        "model_spec": {"name": "tiny", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }
