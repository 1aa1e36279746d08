"""The way of an ordinary request from bytes to bytes: so few files that one can read them all."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

from app import errors
from app.application import create_app
from app.settings import Settings
from tests.app.live import Connection, Live, request
from tests.app.running_service import Loader

ROOT = errors.__file__.removesuffix("errors.py")
MOST_FILES = 15
BODY = b'{"sequences":[[[0.1,1,1,1],[0.2,1,1,1]]]}'


def test_an_ordinary_request_passes_few_files(tiny_dir: Path) -> None:
    """Once a first one has been answered. The kernel, a fake here, is one more."""
    files: set[str] = set()

    def see(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(ROOT):
            files.add(name.removeprefix(ROOT))

    async def asked(connection: Connection) -> int:
        first = await connection.ask(*request("/predict", BODY))
        assert first.status == 200
        sys.setprofile(see)
        try:
            return (await connection.ask(b"".join(request("/predict", BODY)))).status
        finally:
            sys.setprofile(None)

    with Live(create_app(Settings(models_dir=tiny_dir, model="tiny"), Loader())) as live:
        live.run(live.ready())
        assert live.talk(asked) == 200
    ways = {"server/http_protocol.py", "api/protocols/native/predict.py", "engine/scheduler.py"}
    assert ways < files, "it was not seen"
    assert len(files) <= MOST_FILES, sorted(files)
