"""`/v2` at its edges: bytes that do not add up, other models, and whatever else is sent."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.api.protocols.open_inference.binary_tensors import HEADER
from tests.app.fakes import write_version
from tests.app.foreign_protocols import NO_VERSIONS, error
from tests.app.fuzz_open_inference import PATH, check, fuzz, fuzz_service
from tests.app.running_service import Loader, Service, make_service
from tests.app.strategies import json_values

# Two features, the second of which may be missing.
RAW = np.array([[[1, np.nan], [2, 0]]], "<f4").tobytes()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with fuzz_service(tmp_path_factory.mktemp("models")) as service:
        yield service.wait_until_ready()


def send(service: Service, text: bytes, raw: bytes, header: str | None) -> tuple[int, str]:
    """Status, and the error if it is one."""
    headers = {} if header is None else {HEADER: header}
    response = service.post(PATH, content=text + raw, headers=headers)
    check(response.status_code, response.content)
    return response.status_code, response.json().get("error", "")


def document(size: int | None = len(RAW), **fields: Any) -> bytes:
    sequences = {"name": "sequences", "shape": [1, 2, 2], "datatype": "FP32", **fields}
    return json.dumps(
        {"inputs": [{**sequences, "parameters": {"binary_data_size": size}}]}
    ).encode()


TEXT = document()


def test_bytes_that_add_up_are_understood(service: Service) -> None:
    assert send(service, TEXT, RAW, str(len(TEXT))) == (200, "")


@pytest.mark.parametrize(
    ("text", "raw", "header", "message"),
    [
        (
            TEXT,
            RAW,
            str(len(TEXT) + 17),
            f"is {len(TEXT) + 17}, but the body has {len(TEXT) + 16} by",
        ),
        (TEXT, RAW, "-1", f'{HEADER} must be a number of bytes, got "-1"'),
        (TEXT, RAW, "9" * 400, f"{HEADER} must be a number of bytes, got"),
        (TEXT, RAW, "0", "zero-length"),
        (TEXT, RAW, str(len(TEXT) - 1), "unexpected end of data"),
        (TEXT, RAW, None, "not valid UTF-8"),
        (TEXT, b"", None, "0 bytes follow the JSON, but binary_data_size adds up to 16"),
        (TEXT, RAW[:-1], str(len(TEXT)), "15 bytes follow the JSON, but binary_data_size adds up"),
        (TEXT, RAW * 2, str(len(TEXT)), "32 bytes follow the JSON, but binary_data_size adds up"),
        (
            document(12),
            RAW[:12],
            str(len(document(12))),
            "shape [1, 2, 2] of FP32 has 16 bytes, got 12",
        ),
        (
            document(shape=[2**62, 2**62, 2]),
            RAW,
            str(len(document(shape=[2**62, 2**62, 2]))),
            "the limit is 256",
        ),
        (
            document(shape=[1, 2**62, 2]),
            RAW,
            str(len(document(shape=[1, 2**62, 2]))),
            f"has {2**62} time steps, the limit is 10000",
        ),
        (document(data=[1]), RAW, str(len(document(data=[1]))), "must have either data or"),
        (document(-1), RAW, str(len(document(-1))), "greater than or equal to 0, got -1"),
        (b'{"a":' * 2000, b"", None, "depth limit exceeded"),
        (b'{"inputs": NaN}', b"", None, "NaN and Infinity are not JSON"),
        (b"[]", b"", None, "the body must be an object, got an array of 0"),
    ],
)
def test_bytes_that_do_not_add_up_are_refused(
    service: Service, text: bytes, raw: bytes, header: str | None, message: str
) -> None:
    status, error = send(service, text, raw, header)
    assert status == 400
    assert message in error


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_in_bytes_must_be_finite_unless_it_may_be_missing(
    service: Service, bad: float
) -> None:
    raw = np.array([[[1, 0], [bad, bad]]], "<f4").tobytes()
    status, error = send(service, TEXT, raw, str(len(TEXT)))
    assert status == 400
    assert "/inputs/0: sequences[0, 1, 0]: a is " in error
    assert ("sequences[0, 1, 1]: b is inf, not finite" in error) == np.isinf(bad)


def test_a_state_in_bytes_must_be_finite(service: Service) -> None:
    numbers = {"name": "sequences", "shape": [1, 1, 2], "datatype": "FP32", "data": [1, 2]}
    state = {"name": "state_0_h", "shape": [1, 1], "datatype": "FP32"}
    inputs = [numbers, {**state, "parameters": {"binary_data_size": 4}}]
    text = json.dumps({"inputs": inputs}).encode()
    error = send(service, text, np.float32(np.nan).tobytes(), str(len(text)))
    assert error == (400, "/inputs/1: state_0_h[0, 0]: must be a finite number")


def test_states_are_all_there_or_none(tmp_path: Path) -> None:
    states = [{"name": name, "tensor": f"state_0_{name}"} for name in "hc"]
    write_version(tmp_path / "tiny", 1, layers=[{"cell": "lstm", "units": 1, "states": states}])
    inputs = [
        {"name": "sequences", "shape": [1, 1, 1], "datatype": "FP32", "data": [1]},
        {"name": "state_0_c", "shape": [1, 1], "datatype": "FP32", "data": [1]},
    ]
    with make_service(tmp_path) as service:
        service.wait_until_ready()
        error = send(service, json.dumps({"inputs": inputs}).encode(), b"", None)
    text = '"state_0_h" is missing; an initial state has all of its tensors or none'
    assert error == (400, f"/inputs: {text}")


def test_a_compressed_body_is_refused(service: Service) -> None:
    response = service.post(PATH, content=b"x", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert list(response.json()) == ["error"]


def test_the_service_says_what_it_is(service: Service) -> None:
    about = service.get("/v2").json()
    assert (about["name"], about["version"]) == ("unroll", service.app.version)
    assert {"binary_tensor_data", "sequence", "sequence(string_id)"} <= set(about["extensions"])
    assert service.get("/v2/health/live").json() == {"live": True}
    assert service.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/tiny", "/v2/models/tiny/versions/1"])
def test_a_model_says_what_goes_in_and_what_comes_out(service: Service, path: str) -> None:
    state = {"name": "state_0_h", "datatype": "FP32", "shape": [-1, 1]}
    assert service.get(path).json() == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "sequences", "datatype": "FP32", "shape": [-1, -1, 2]},
            {"name": "lengths", "datatype": "INT32", "shape": [-1]},
            state,
        ],
        "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [-1, -1, 1]}, state],
    }
    assert service.get(f"{path}/ready").json() == {"name": "tiny", "ready": True}
    config = service.get(f"{path}/config").json()
    assert config["input"][0] == {
        "name": "sequences",
        "data_type": "TYPE_FP32",
        "dims": [-1, -1, 2],
    }
    assert config["input"][1]["optional"] is True
    assert config["max_batch_size"] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "there is no model 'other'; this service has 'tiny'"),
        ("o" * 5000, "there is no model 'ooo"),
        ("tiny/versions/2", "version 2 is not served; version 1 is"),
        *((f"tiny/versions/{text}", "there is no version '") for text in NO_VERSIONS),
    ],
)
def test_another_model_is_not_found(service: Service, name: str, message: str) -> None:
    for path in ("", "/ready", "/config", "/infer"):
        method = "POST" if path == "/infer" else "GET"
        response = service.request(method, f"/v2/models/{name}{path}")
        assert error(response, 404).startswith(message)
        assert len(response.content) < 300


@pytest.mark.parametrize(
    "path",
    ["/models/tiny/stats", "/repository/index", "/x", "/", "/models/tiny/", "/models/tiny/infer/"],
)
def test_what_is_not_there_is_not_found(service: Service, path: str) -> None:
    for method in ("GET", "POST", "PUT"):
        text = error(service.request(method, f"/v2{path}"), 404)
        assert text == f"there is nothing at '/v2{path}'; /docs lists what there is"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_another_method_is_refused(service: Service, method: str) -> None:
    paths = ["/v2", "/v2/health/live", "/v2/health/ready"]
    for model in ("/v2/models/tiny", "/v2/models/tiny/versions/1"):
        paths += [model, f"{model}/ready", f"{model}/config", f"{model}/infer"]
    for path in paths:
        right = "POST" if path.endswith("infer") else "GET"
        if method != right:
            response = service.request(method, path)
            assert response.headers["allow"] == right
            assert error(response, 405) == f"{method} is not allowed at '{path}'; {right} is"


def test_the_page_of_the_api_has_the_routes_and_an_example_that_works(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    found = {(path, method) for path, item in paths.items() for method in item}
    expected = {("/v2", "get"), ("/v2/health/live", "get"), ("/v2/health/ready", "get")}
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        expected |= {(model + path, "get") for path in ("", "/ready", "/config")}
        expected.add((f"{model}/infer", "post"))
    assert {place for place in found if place[0].startswith("/v2")} == expected
    content = paths["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]
    example = content["application/json"]["example"]
    registry = service.app.state.context.registry
    assert example["inputs"][0]["data"] == [registry.current().manifest.example]
    assert service.post(PATH, json=example).status_code == 200


def test_until_a_model_is_loaded_it_lives_but_is_not_ready(tiny_dir: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    with make_service(tiny_dir, loader) as service:
        assert service.get("/v2/health/live").json() == {"live": True}
        for response in (
            service.get("/v2/health/ready"),
            service.get("/v2/models/tiny/ready"),
            service.post("/v2/models/tiny/infer", content=TEXT),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert response.json() == {"error": "the model is being loaded"}
        loader.gate.set()
        service.wait_until_ready()
        assert service.get("/v2/health/ready").status_code == 200


def test_thousands_of_broken_requests_are_refused_and_take_no_slot(service: Service) -> None:
    statuses = fuzz(service, 3000, 1, check)
    assert statuses[200] > 100, "some are valid by chance"
    assert statuses[400] > 1000
    for name in ("waiting", "running"):
        assert service.metric(f"unroll_sequences_{name}") == 0.0
    assert send(service, TEXT, RAW, str(len(TEXT))) == (200, "")


inputs = st.fixed_dictionaries(
    {"name": st.just("sequences"), "shape": json_values, "datatype": st.just("FP32")},
    optional={"data": json_values, "parameters": json_values},
)
bodies = json_values | st.fixed_dictionaries(
    {"inputs": json_values | st.lists(inputs, max_size=2)},
    optional={"outputs": json_values, "parameters": json_values, "id": json_values},
)


headers = st.none() | st.text(st.characters(codec="ascii", exclude_categories=["Cc"]))


@given(bodies, st.binary(max_size=20), headers)
@hypothesis_settings(max_examples=300)
def test_whatever_is_sent_is_answered(
    service: Service, body: Any, raw: bytes, header: str | None
) -> None:
    text = json.dumps(body).encode()
    send(service, text, raw, str(len(text)) if raw else header)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_whatever_bytes_are_sent_are_answered(service: Service, body: bytes, length: int) -> None:
    status, _ = send(service, body, b"", str(length))
    assert status == 400
