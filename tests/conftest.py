"""What all tests share: exported models, made once a run, and how tests are chosen and ordered."""

import fcntl
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from hypothesis import settings

from tests.support.real_server import Server, serve

# Rooms whose tests start servers, which takes long.
WITH_SERVERS = frozenset({"foreign_clients", "laws", "project", "service"})
# What `--without-tensorflow` does without: each takes seconds to import and hundreds of MB.
LARGE = frozenset({"tensorflow", "keras", "openvino"})

# A shared machine pauses at will: how long an example takes says nothing. In CI a verdict is of the
# commit and repeats (`CI` is set there); other runs search anew each time.
settings.register_profile(
    "unroll", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("unroll")


class SkipLarge(MetaPathFinder):
    """Skips the test, or the file of tests, that imports a large library."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        if fullname in LARGE:
            pytest.skip(f"needs {fullname}", allow_module_level=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-tensorflow",
        action="store_true",
        help="skip every test that imports TensorFlow, Keras or OpenVINO",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-tensorflow"):
        assert not LARGE & sys.modules.keys(), "a conftest or a plugin has imported a large library"
        sys.meta_path.insert(0, SkipLarge())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what needs a GPU where TensorFlow can use none, and puts the longest tests first."""
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not _has_gpu():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
    # Where files are dealt to several processes, no long one is then left for the end, when the
    # other processes have nothing.
    items.sort(key=lambda item: item.path.parent.name not in WITH_SERVERS)


def pytest_collection_finish() -> None:
    """Whatever collects garbage after this does not look through the tests themselves again.

    Each service that a test starts does so once, which took most of the time of its test.
    """
    gc.collect()
    gc.freeze()


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_frozen() -> Iterator[None]:
    """A service freezes what it has loaded; here hundreds come and go, with files that are open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "freeze", lambda: None)
        yield


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Has `make` fill the folder, unless another process of this run has done so."""
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run of tests share."""
    own = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each of its processes a folder in it.
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def models_dir(run_dir: Path) -> Path:
    """A models' folder with one small exported model of each kind: rnn, lstm, gru, mixed."""
    from tests.support.exported_models import MIXED, export

    def make(folder: Path) -> None:
        for name, layers in {
            "rnn": ("rnn:16", "rnn:8:relu"),
            "lstm": ("lstm:16", "lstm:8"),
            "gru": ("gru:16", "gru:8"),
            "mixed": MIXED,
        }.items():
            export(folder, layers, name)

    return made_once(run_dir / "models", make)


@pytest.fixture(scope="session")
def kinds_dir(run_dir: Path) -> Path:
    """A models' folder with a model of columns that are no plain numbers: `kinds`."""
    from tests.support.exported_models import export_kinds

    return made_once(run_dir / "kinds", export_kinds)


@pytest.fixture(scope="session", params=["tensorflow", "onnxruntime"])
def server_of_laws(
    request: pytest.FixtureRequest, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves `mixed`, with each kernel in turn, to all files of laws.

    Two workers, so that pieces of a session arrive at either; slots and chunks small enough that
    sequences queue, join late and are cut often.
    """
    log = tmp_path_factory.mktemp("laws") / "server.log"
    sizes = {"max_chunk_steps": 16, "workers": 2, "runner": request.param}
    with serve(models_dir, "mixed", log, **sizes) as running:
        yield running
