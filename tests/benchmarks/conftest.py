"""A tiny model in all of its forms, a service with a fake kernel, a folder for what is made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import model_files
from benchmarks.load import wrk
from benchmarks.model_files import BenchModel
from benchmarks.servers import server
from tests.app.live import Live

UNCHANGED = {"kind": "standardize", "mean": 0.0, "std": 1.0}
FEATURES = [
    {"name": f"sensor_{i}", "unit": "1", "transform": UNCHANGED}
    for i in range(model_files.NUM_FEATURES)
]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    """Its forms agree, or it would not be made."""
    # It imports TensorFlow.
    from benchmarks.models import make

    build = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "bench_model", lambda units: BenchModel(units, build / f"lstm{units}"))
        return make.ensure(6)


@pytest.fixture(autouse=True)
def _build_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (model_files, server, wrk):
        monkeypatch.setattr(module, "BUILD", tmp_path)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """The service, with the features of the benchmark's model."""
    from tests.app.api.test_fast_path import live_of
    from tests.app.fakes import write_version
    from tests.app.running_service import Loader

    write_version(tmp_path / "tiny", 1, features=FEATURES)
    with live_of(tmp_path, Loader()) as live:
        live.run(live.ready())
        yield live


@pytest.fixture
def port(live: Live) -> int:
    return int(live.server.servers[0].sockets[0].getsockname()[1])
