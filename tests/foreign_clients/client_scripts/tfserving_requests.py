"""A client of TensorFlow Serving's REST API, with `requests` and nothing of this project.

    python tfserving_requests.py URL BODIES

URL is that of a model, `http://host:port/v1/models/name`; BODIES a JSON file, `{name: body}`, of
what is sent to `:predict`. Prints a JSON object of all answers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import requests

TARGETS = ("", "/versions/1", "/labels/stable")


def read(answer: requests.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


def refusal(answer: requests.Response) -> list[Any]:
    """Status and text of an error, as clients tell it to their users."""
    return [answer.status_code, answer.json()["error"]]


def main(url: str, bodies: Path) -> None:
    asked = json.loads(bodies.read_text())
    first = next(iter(asked.values()))
    with requests.Session() as session:
        made = {
            "status": [read(session.get(url + target)) for target in TARGETS],
            "metadata": [read(session.get(f"{url}{target}/metadata")) for target in TARGETS],
            "targets": [
                read(session.post(f"{url}{target}:predict", json=first)) for target in TARGETS
            ],
            # As TensorFlow's tutorials send it.
            "data": read(
                session.post(
                    f"{url}:predict",
                    data=json.dumps({"signature_name": "serving_default", **first}),
                    headers={"content-type": "application/json"},
                )
            ),
            "predictions": {
                name: read(session.post(f"{url}:predict", json=body))
                for name, body in asked.items()
            },
            "errors": [
                refusal(session.post(f"{url}:predict", json={})),
                refusal(session.post(f"{url}:predict", data="not JSON")),
                refusal(session.post(f"{url}:classify", json={"examples": [{}]})),
                refusal(session.post(f"{url}/versions/99:predict", json=first)),
                refusal(session.get(f"{url}-of-another-name")),
                refusal(session.get(f"{url}/labels/canary/metadata")),
            ],
        }
    print(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
