"""Has Schemathesis ask the service all that its OpenAPI document allows, and much that it does not.

    python -m benchmarks.robustness.api_conformance --examples 2000

All of its checks, for every operation, on a real service with a small model. Exit status 1 if there
is a failure without an explanation here.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import venv
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.models.ensure_model import ensure_model
from benchmarks.paths import BUILD, ROOT
from benchmarks.servers.kinds import unroll
from benchmarks.servers.server import serve

REQUIREMENTS = ROOT / "requirements-conformance.txt"
HOME = BUILD / "conformance"
UNITS = 8
SETTINGS = {"UNROLL_RUNNER": "onnxruntime", "UNROLL_SESSION_IDLE_S": "5"}


class Explained(NamedTuple):
    """Answers that a check may fail on, and that are as they must be.

    Attributes:
        answers: pattern of their status, operation, media type and text.
        reason: why.
    """

    answers: str
    reason: str


EXPLAINED = (
    Explained(
        r"4\d\d POST .* application/json .*(feature|column|there (is|are) |is there twice|state|"
        r"numbers|must be a number; null|array of time steps|is missing|"
        r"beyond the range|dimensions|shape)",
        "names, sizes and missing values are the model's: the document is of all models",
    ),
    Explained(
        r"4\d\d POST .* application/json .*(must hold at least one|the limit is|"
        r"binary_data_size|data or)",
        "how many there may be is a setting, or depends on another field",
    ),
    Explained(
        r"4\d\d POST .* application/json .*(either instances or inputs|START flag|must name it|"
        r"is given without)",
        "a field that depends on another one, or on what was sent before",
    ),
    Explained(
        r"4\d\d POST .* application/json .*Input should be a valid integer",
        "JSON Schema takes 3.0 for a whole number, the service does not",
    ),
    Explained(
        r"4\d\d POST .* application/json .*(not offered|no signature|whole number from|"
        r"at most \* fields|must be finite|overflow)",
        "in the description of the field, or in the documents: what is not offered, and limits",
    ),
    Explained(
        r"4\d\d POST .* application/(octet-stream|x-npz|vnd\.apache\.arrow\.stream) ",
        "a body of bytes, which the document can only call bytes",
    ),
    Explained(
        r"200 POST /predict application/json negative: query$",
        "of a JSON body the query is not looked at (docs/formats.md)",
    ),
    Explained(
        r"200 .* negative: header",
        "a header that the document does not have: a content type, or one that is passed over",
    ),
    Explained(r"503 POST /v2/.* its timeout of", "the caller's own, of some microseconds"),
)
# Codes of Schemathesis' failures that the notes tell of one by one.
NOTED = {"ST101", "ST201", "ST202"}
# Each is asked by a process of its own: threads of one get in each other's way.
PARTS = {
    "native": "--exclude-path-regex=^/v[12]",
    "v1": "--include-path-regex=^/v1",
    "v2": "--include-path-regex=^/v2",
}


def schemathesis() -> Path:
    """The program, in an environment of its own: its pins do not fit the project's."""
    home, wanted = HOME / "venv", REQUIREMENTS.read_text()
    program, stamp = home / "bin" / "schemathesis", home / "installed"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return program


def ask(url: str, part: str, examples: int, seed: int) -> "subprocess.Popen[bytes]":
    """Has Schemathesis ask a part, and leave its report and the notes in `HOME`."""
    notes = HOME / f"{part}.notes"
    notes.unlink(missing_ok=True)
    notes.touch()
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "benchmarks.robustness.conformance_hooks",
        "CONFORMANCE_NOTES": str(notes),
        "PYTHONPATH": str(ROOT),
    }
    options = [f"--checks=all --max-examples={examples} --seed={seed} {PARTS[part]}"]
    options += ["--continue-on-failure --generation-database=none --suppress-health-check=all"]
    options += [f"--no-color --report=json --report-json-path={HOME / part}.json"]
    command = [str(schemathesis()), "run", f"{url}/openapi.json", *" ".join(options).split()]
    with (HOME / f"{part}.log").open("w") as log:
        return subprocess.Popen(command, cwd=HOME, env=environment, stdout=log, stderr=log)


def judge() -> list[str]:
    """Prints how many kinds of answers have which reason; returns what has none."""
    unexplained, notes = [], []
    for part in PARTS:
        report = json.loads((HOME / f"{part}.json").read_text())
        cases, operations = report["test_cases"]["generated"], report["operations"]["tested"]
        print(f"{part}: {cases:,} cases of {operations} operations")
        unexplained += [
            f"{failure['code']} {failure['title']}: {', '.join(failure['operations'])}"
            for failure in report["failures"]
            if failure["code"] not in NOTED
        ]
        unexplained += [f"error: {error}" for error in report["errors"]]
        notes += (HOME / f"{part}.notes").read_text().splitlines()
    reasons: Counter[str] = Counter()
    for line in notes:
        note = json.loads(line)
        answer = f"{note['status']} {note['operation']} {note['media_type']} {note['text']}"
        reason = next((e.reason for e in EXPLAINED if re.match(e.answers, answer)), None)
        if reason is None:
            unexplained.append(answer)
        else:
            reasons[reason] += 1
    for reason, count in reasons.most_common():
        print(f"{count} kinds of answers: {reason}")
    return unexplained


def main() -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=2000, help="of an operation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    service = unroll("api_conformance", "", SETTINGS)
    with serve(service, ensure_model(UNITS)) as server:
        url = f"http://127.0.0.1:{server.port}"
        # Their exit statuses say that there are failures; which, the reports.
        for asking in [ask(url, part, options.examples, options.seed) for part in PARTS]:
            asking.wait()
    unexplained = judge()
    print("\n".join(unexplained) or "no failure is left unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
