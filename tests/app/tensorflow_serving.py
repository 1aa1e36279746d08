"""What the tests of TensorFlow Serving's REST API share: requests and their answers.

The fake kernel sums up the first of the four features, exactly, into both outputs and the state.
"""

from typing import Any

import httpx

from tests.app.running_service import Service

POISON = 666.0
OVERFLOW = 777.0
MODEL = "/v1/models/tiny"
TARGETS = [MODEL, f"{MODEL}/versions/1", f"{MODEL}/labels/stable", f"{MODEL}/labels/latest"]
FIRST = [[1.0, 1000.0, 90.0, 3.0], [2.0, None, None, 4.0], [3.0, 1001.0, 91.0, 5.0]]
SECOND = [[10.0, None, 0.0, 0.0]]
SUMS = {"outputs": [[1.0, 1.0], [3.0, 3.0], [6.0, 6.0]], "state_0_h": [6.0]}
TEN = {"outputs": [[10.0, 10.0]], "state_0_h": [10.0]}


def predict(service: Service, body: Any, target: str = MODEL) -> httpx.Response:
    return service.post(f"{target}:predict", json=body)


def answer(service: Service, target: str = MODEL, **body: Any) -> dict[str, Any]:
    response = predict(service, body, target)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    made: dict[str, Any] = response.json()
    return made
