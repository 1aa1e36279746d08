"""TensorFlow Serving's paths: which models they mean, and what is told of them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from app.errors import quoted
from tests.app.fakes import write_version
from tests.app.foreign_protocols import NO_VERSIONS, error
from tests.app.running_service import Loader, Service, make_service
from tests.app.tensorflow_serving import (
    MODEL,
    OVERFLOW,
    POISON,
    SECOND,
    TARGETS,
    answer,
    predict,
)


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(POISON, OVERFLOW)) as service:
        yield service.wait_until_ready()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{MODEL}:classify"),
        ("POST", f"{MODEL}:regress"),
        ("POST", f"{MODEL}/versions/1:regress"),
        ("POST", f"{MODEL}/labels/stable:classify"),
        ("POST", f"{MODEL}:predict/"),
        ("GET", f"{MODEL}/nothing"),
        ("GET", f"{MODEL}/versions"),
        ("GET", f"{MODEL}/"),
        ("GET", f"{MODEL}/metadata/"),
        ("GET", f"{MODEL}/labels/"),
        ("PUT", f"{MODEL}/versions/"),
        ("GET", "/v1/models"),
        ("GET", "/v1/"),
        ("GET", "/v1"),
    ],
)
def test_another_path_is_not_found(service: Service, method: str, path: str) -> None:
    error(service.request(method, path, json={"instances": [SECOND]}), 404)


@pytest.mark.parametrize("verb", ["classify", "regress", "x" * 5000])
@pytest.mark.parametrize("target", TARGETS)
def test_another_verb_is_not_found(service: Service, target: str, verb: str) -> None:
    text = error(service.post(f"{target}:{verb}", json={"examples": [{}]}), 404)
    assert text == f"there is no verb ':{verb[:80]}'; there is ':predict'"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("target", TARGETS)
def test_another_method_is_refused(service: Service, target: str, method: str) -> None:
    for path in (target, f"{target}/metadata", f"{target}:predict"):
        right = "POST" if path.endswith("predict") else "GET"
        if method != right:
            response = service.request(method, path)
            assert response.headers["allow"] == right
            assert error(response, 405) == f"{method} is not allowed at '{path}'; {right} is"


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


@pytest.mark.parametrize("version", NO_VERSIONS)
def test_a_version_is_digits(service: Service, version: str) -> None:
    target = f"{MODEL}/versions/{version}"
    for response in (
        service.get(target),
        service.get(f"{target}/metadata"),
        predict(service, {"instances": [SECOND]}, target),
    ):
        text = f"there is no version {quoted(unquote(version))}: versions are 1 to 19 digits"
        assert error(response, 404) == text


def statuses(*versions: dict[str, Any], ready: bool) -> dict[str, Any]:
    return {"model_version_status": list(versions), "ready": ready}


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
    assert response.json() == statuses(status(1, "AVAILABLE"), ready=True)


def test_the_status_of_every_version_or_the_one_that_is_named(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        write_version(tmp_path / "tiny", version)
    bad = tmp_path / "tiny" / "3" / "weights.bin"
    bad.write_bytes(b"Weights of a fake")
    loader = Loader()
    loader.gate.clear()
    with make_service(tmp_path, loader) as service:
        refused = status(3, "END", f"{bad} does not have the SHA-256 of the manifest")
        registry = service.app.state.context.registry
        while [model.state for model in registry.models][1:2] != ["loading"]:
            service.run(asyncio.sleep(0.001))
        states = [refused, status(2, "LOADING"), status(1, "START")]
        assert service.get(MODEL).json() == statuses(*states, ready=False)
        assert "being loaded" in error(service.get(f"{MODEL}/labels/stable"), 503)
        assert "being loaded" in error(service.get(f"{MODEL}/metadata"), 503)
        assert "being loaded" in error(predict(service, {"instances": [[[1]]]}), 503)
        loader.gate.set()
        service.wait_until_ready()
        states[1] = status(2, "AVAILABLE")
        assert service.get(MODEL).json() == statuses(*states, ready=True)
        for target, expected in {
            "versions/1": states[2],
            "versions/2": states[1],
            "versions/3": states[0],
            # Of those that were found the newest was refused.
            "labels/stable": states[1],
            "labels/latest": states[1],
        }.items():
            made = service.get(f"{MODEL}/{target}").json()
            assert made == statuses(expected, ready=expected is states[1])
        made = answer(service, f"{MODEL}/labels/latest", instances=[[[1]]])
        assert made == answer(service, f"{MODEL}/versions/2", instances=[[[1]]])
        text = error(predict(service, {"instances": [[[1]]]}, f"{MODEL}/versions/1"), 404)
        assert "version 1 is not served; version 2 is" in text


def test_a_model_without_versions_is_not_found(tmp_path: Path) -> None:
    with make_service(tmp_path) as service:
        while service.app.state.context.registry.loading:
            service.run(asyncio.sleep(0.001))
        assert error(service.get(MODEL), 404) == "there is no model 'tiny'"


@pytest.mark.parametrize("name", ["a:b", "a:predict", "a.b-c_d", "ü x", "models"])
def test_models_of_any_name_are_found(tmp_path: Path, name: str) -> None:
    write_version(tmp_path / name, 1)
    with make_service(tmp_path, model=name) as service:
        service.wait_until_ready()
        for target in (f"/v1/models/{name}", f"/v1/models/{name}/versions/1"):
            assert service.get(target).json() == statuses(status(1, "AVAILABLE"), ready=True)
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


def test_kserves_client_asks_whether_the_process_answers(tmp_path: Path) -> None:
    with make_service(tmp_path) as service:
        assert service.get("/").json() == {"status": "alive"}
