"""TensorFlow Serving's `:predict` over a fake kernel: what is computed, whatever is sent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app.fakes import write_version
from tests.app.foreign_protocols import error
from tests.app.running_service import Loader, Service, make_service
from tests.app.strategies import json_values
from tests.app.tensorflow_serving import (
    FIRST,
    MODEL,
    OVERFLOW,
    POISON,
    SECOND,
    SUMS,
    TARGETS,
    TEN,
    answer,
    predict,
)


@pytest.fixture(scope="module")
def service(tiny_dir: Path) -> Iterator[Service]:
    with make_service(tiny_dir, Loader(POISON, OVERFLOW)) as service:
        yield service.wait_until_ready()


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
    padded = [SECOND[0], [POISON, 1.0, 1.0, 1.0], [0.0] * 4]
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
    """Every deadline has passed when the first chunk is cut."""
    with make_service(tiny_dir, request_timeout_s=1e-9) as service:
        service.wait_until_ready()
        error(predict(service, {"instances": [SECOND]}), 504)


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
