"""What probes, dashboards and people read: health, models, metrics, the API's description."""

import asyncio
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from app.api.problems import DIALECTS, MEDIA_TYPE
from tests.app.fakes import write_version
from tests.app.running_service import Loader, Service, make_service
from tests.support.exported_models import FEATURES, OUTPUTS


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir) as service:
        yield service.wait_until_ready()


def test_its_event_loop_tells_the_parent_that_it_goes_on(
    tiny_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.application.BEAT_S", 0.01)
    with make_service(tiny_dir) as service:
        shared = service.app.state.context.stats.shared
        for _ in range(3):
            before = shared.beats(os.getpid())
            service.run(asyncio.sleep(0.1))
            assert shared.beats(os.getpid()) > before


def test_until_a_model_is_loaded_it_lives_but_is_not_ready(tiny_dir: Path) -> None:
    loader = Loader()
    loader.gate.clear()
    with make_service(tiny_dir, loader) as service:
        assert service.get("/healthz").json() == {"status": "ok"}
        for response in (
            service.get("/readyz"),
            service.post("/predict", json={"sequences": [[[1, 2, 3, 4]]]}),
        ):
            assert response.status_code == 503
            assert response.headers["content-type"] == MEDIA_TYPE
            assert response.headers["retry-after"] == "1"
            assert response.json() == {
                "type": "urn:unroll:problem:the-service-is-not-ready",
                "title": "The service is not ready",
                "status": 503,
                "detail": "the model is being loaded",
            }
        assert service.metric("unroll_ready") == 0.0
        # Whoever probes may tell a service that starts from one whose workers have died.
        assert service.metric("unroll_workers") == 1.0
        help_lines = service.get("/metrics").text.splitlines()
        assert "# HELP unroll_ready 1 when a model answers" in help_lines
        assert "# HELP unroll_workers Processes that live, ready or not" in help_lines
        assert "example" not in str(service.get("/openapi.json").json()["paths"]["/predict"])
        loader.gate.set()
        service.wait_until_ready()
        whole = {"workers": 1, "workers_ready": 1, "workers_failing": 0}
        assert service.get("/readyz").json() == {"status": "ready", **whole}
        assert service.metric("unroll_ready") == 1.0


def test_a_service_without_a_model_lives_and_says_what_it_lacks(tmp_path: Path) -> None:
    with make_service(tmp_path) as service:
        while service.app.state.context.registry.loading:
            service.run(asyncio.sleep(0.001))
        detail = service.get("/readyz").json()["detail"]
        assert detail.startswith(f"there is no version in {tmp_path / 'tiny'}")
        assert service.get("/models").json() == {"models": []}
        assert service.get("/healthz").status_code == 200


def test_models_tell_what_goes_in_and_what_comes_out(service: Service) -> None:
    (model,) = service.get("/models").json()["models"]
    assert (model["name"], model["version"], model["state"]) == ("tiny", 1, "ready")
    assert "reason" not in model
    assert [(f["name"], f["unit"], f["missing"]) for f in model["features"]] == [
        (feature.name, feature.unit, feature.missing) for feature in FEATURES
    ]
    assert [(o["name"], o["unit"], o["horizon"]) for o in model["outputs"]] == [
        (output.name, output.unit, output.horizon) for output in OUTPUTS
    ]
    assert model["layers"] == [{"cell": "rnn", "units": 1, "device": "CPU:0"}]


def test_models_tell_why_a_version_was_refused(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)
    write_version(tmp_path / "tiny", 2)
    bad = write_version(tmp_path / "tiny", 3) / "weights.bin"
    bad.write_bytes(b"Weights of a fake")
    with make_service(tmp_path) as service:
        service.wait_until_ready()
        newest, second, first = service.get("/models").json()["models"]
    assert (newest["version"], newest["state"]) == (3, "refused")
    assert newest["reason"] == f"{bad} does not have the SHA-256 of the manifest"
    assert newest["features"] == []
    assert (second["version"], second["state"]) == (2, "ready")
    assert (first["version"], first["state"]) == (1, "found")


def test_metrics_count_what_was_done(tiny_dir: Path) -> None:
    names = ("sequences_completed", "sequences_failed", "time_steps", "chunk_rows", "chunks")
    with make_service(tiny_dir, Loader(overflow=777.0)) as service:
        service.wait_until_ready()
        before = {name: service.metric(f"unroll_{name}_total") for name in names}
        assert set(before.values()) == {0.0}
        # Chunks of 16 time steps at most: 16 + 4, while the short one leaves after the first.
        rows = [[1.0, None, None, 0.0]]
        service.post("/predict", json={"sequences": [rows * 20, rows * 16]})
        service.post("/predict", json={"sequences": [[[777, 0, 0, 0]]]})
        after = [service.metric(f"unroll_{name}_total") for name in names]
        assert after == [2.0, 1.0, 37.0, 4.0, 3.0]
        assert service.metric("unroll_sequences_waiting") == 0.0
        assert service.metric("unroll_sequences_running") == 0.0


def test_two_applications_have_metrics_of_their_own(service: Service, tiny_dir: Path) -> None:
    with make_service(tiny_dir) as other:
        other.wait_until_ready()
        other.post("/predict", json={"sequences": [[[1, 2, 3, 4]]]})
        assert other.metric("unroll_sequences_completed_total") == 1.0
    assert service.metric("unroll_sequences_completed_total") == 0.0


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_of_the_openapi_document_resolves(service: Service) -> None:
    document = service.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    found = set(references(document))
    assert {"#/components/schemas/PredictRequest", "#/components/schemas/Problem"} <= found
    for reference in found:
        place = document
        root, *parts = reference.split("/")
        assert root == "#"
        for part in parts:
            place = place[part]
        assert place["type"] == "object"


def test_the_openapi_document_has_the_routes_that_callers_use(service: Service) -> None:
    document = service.get("/openapi.json").json()
    native = {p: item for p, item in document["paths"].items() if p.split("/")[1] not in DIALECTS}
    assert {(path, method) for path, item in native.items() for method in item} == {
        ("/", "get"),
        ("/predict", "post"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/models", "get"),
        ("/sessions/{id}", "get"),
        ("/sessions/{id}", "delete"),
    }


def test_the_formats_of_predict_and_their_options_are_documented(service: Service) -> None:
    predict = service.get("/openapi.json").json()["paths"]["/predict"]["post"]
    binary = {"application/vnd.apache.arrow.stream", "application/x-npz"}
    assert predict["requestBody"]["content"].keys() == {"application/json", *binary}
    lines = "application/x-ndjson"
    assert predict["responses"]["200"]["content"].keys() == {"application/json", lines, *binary}
    options = {"outputs", "states", "model", "version"}
    options |= {"session", "time_step", "key", "must_exist", "timeout_s"}
    assert {item["name"] for item in predict["parameters"] if item["in"] == "query"} == options


def test_tensors_as_bytes_are_documented(service: Service) -> None:
    infer = service.get("/openapi.json").json()["paths"]["/v2/models/{name}/infer"]["post"]
    for part in (infer["requestBody"], infer["responses"]["200"]):
        assert part["content"].keys() == {"application/json", "application/octet-stream"}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("docs/open-inference.md", "/v2/models/{name}/infer"),
        ("docs/tensorflow-serving.md", "/v1/models/{name}:predict"),
    ],
)
def test_the_statuses_of_a_protocol_are_those_of_its_document(
    service: Service, document: str, path: str
) -> None:
    responses = service.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    found = re.findall(r"^\| (\d{3}) \|", Path(document).read_text("utf-8"), re.MULTILINE)
    # That another method is wrong is nothing that this one can answer.
    assert set(found) - {"405"} == responses.keys() - {"200", "default"}


def test_errors_are_documented_as_the_problems_that_they_are(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    text = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorText"}}}
    for path, item in paths.items():
        expected = text if path.split("/")[1] in DIALECTS else problem
        for operation in item.values():
            for status, response in operation["responses"].items():
                if status >= "400":
                    assert response["content"] == expected
                    assert response["description"]
    assert {"200", "400", "404", "408", "413", "422", "503"} <= set(
        paths["/predict"]["post"]["responses"]
    )


def test_the_request_of_predict_is_documented_by_its_schema(service: Service) -> None:
    document = service.get("/openapi.json").json()
    request = document["components"]["schemas"]["PredictRequest"]
    assert request["required"] == ["sequences"]
    assert request["additionalProperties"] is False
    assert request["properties"]["outputs"]["enum"] == ["all", "last", "none"]
    assert request["properties"]["states"]["enum"] == ["per_layer", "concatenated", "token", "none"]
    assert {"type": "string"} in request["properties"]["model"]["anyOf"]
    # Of every field what it means, since nobody else tells.
    assert all(field.get("description") for field in request["properties"].values())


def test_the_examples_of_the_document_are_the_models_own_and_work(service: Service) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    asked = {"name": "tiny", "version": 1, "label": "stable"}
    for path in (path for path, item in paths.items() if "post" in item):
        body = paths[path]["post"]["requestBody"]["content"]["application/json"]
        rows = service.app.state.context.registry.current().manifest.example
        assert len(rows) == 4
        assert str(rows) in str(body["example"])
        response = service.post(path.format(**asked), json=body["example"])
        assert response.status_code == 200, f"{path}: {response.text}"
    example = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example == {"sequences": [rows]}


class Links(HTMLParser):
    """The value of every `src` and `href`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_of_the_api_needs_no_other_host(service: Service) -> None:
    page = service.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("// ", ""), "it names a host"
    assert "'/openapi.json'" in page.text
    links = Links()
    links.feed(page.text)
    assert len(links.found) == 3
    for link in links.found:
        assert service.get(link).status_code == 200, link
