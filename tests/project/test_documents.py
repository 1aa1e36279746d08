"""The examples of docs/ run as they stand, against a real server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_server import Server, serve


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serve(models_dir, "mixed", log, workers=2, runner="onnxruntime") as running:
        yield running


@pytest.mark.parametrize(
    ("document", "printed"),
    [
        ("docs/continuing.md", "{'id': 'meter-17', 'time_step': 4}"),
        ("docs/formats.md", "temp_1h"),
    ],
)
def test_the_examples_run(
    server: Server, document: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", Path(document).read_text(), re.DOTALL))
    code = code.replace("localhost:8000", f"127.0.0.1:{server.port}")
    names: dict[str, object] = {}
    try:
        exec(compile(code, document, "exec"), names)
    finally:
        names["client"].close()  # type: ignore[attr-defined]
    assert printed in capsys.readouterr().out
