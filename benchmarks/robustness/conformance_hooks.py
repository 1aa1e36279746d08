"""What Schemathesis is asked to note, in its own environment: it tells one failure of a kind only.

Each kind of answer that its checks may fail on is a line of JSON in the file that
`CONFORMANCE_NOTES` names, with its operation, status, mode, media type and text.
"""

import json
import os
import re
from typing import Any

import schemathesis

NOTES = os.environ["CONFORMANCE_NOTES"]
# What differs from answer to answer.
DIFFERS = re.compile(r"""\d+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|, got .*""", re.DOTALL)
MAX_TEXT = 200

noted: set[str] = set()


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Called with each answer."""
    mode = case.meta.generation.mode.value if case.meta else "positive"
    status = response.status_code
    refused = mode == "positive" and status in (400, 422)
    accepted = mode == "negative" and status < 300
    if not (refused or accepted or status >= 500):
        return
    where = sorted(
        str(place.value)
        for place, part in (case.meta.components if case.meta else {}).items()
        if part.mode.value == "negative"
    )
    for text in {"negative: " + ", ".join(where)} if accepted else _texts(response):
        line = json.dumps(
            {
                "operation": f"{case.operation.method.upper()} {case.operation.path}",
                "status": status,
                "media_type": case.media_type,
                "text": text,
            }
        )
        if line not in noted:
            noted.add(line)
            with open(NOTES, "a") as file:
                file.write(line + "\n")


def _texts(response: Any) -> set[str]:
    """Each mistake that an answer tells, without what differs."""
    try:
        document = response.json()
    except ValueError:
        return {"no JSON"}
    if "errors" in document:
        told = [fault["pointer"] + ": " + fault["message"] for fault in document["errors"]]
    else:
        told = str(document.get("error", document.get("detail"))).split("; ")
    return {DIFFERS.sub("*", text)[:MAX_TEXT] for text in told}
