"""Workers of one service serve the same weights, whatever comes into the models' folder."""

import asyncio
import gc
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.runner_interface import ModelRunner
from app.errors import ModelRefused, NotReady
from app.manifest import Manifest
from app.registry import registry as registry_module
from app.registry.agreed_version import PIN_FILE, AgreedVersion
from app.registry.registry import Registry
from app.settings import Settings
from app.stats.shared_stats import SharedStats
from tests.app.engine.running import until
from tests.app.fakes import load_fake, write_version


@pytest.fixture(scope="module", autouse=True)
def _files_are_closed() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "RETRY_S", 0.001)
    monkeypatch.setattr(registry_module, "MAX_RETRY_S", 0.01)


class Worker:
    """A worker's registry, and what has been loaded for it.

    Attributes:
        fails: what loading a version raises. `loaded` is told of each attempt before.
    """

    def __init__(self, models_dir: Path, home: Path) -> None:
        (home / "stats").touch()
        settings = Settings(models_dir=models_dir, model="tiny")
        stats = SharedStats(2, home / "stats").claim()
        self.loaded: Counter[int] = Counter()
        self.fails: dict[int, Exception] = {}
        self.before: Callable[[Manifest], None] = lambda _: None
        self.registry = Registry(settings, self._load, stats, AgreedVersion(home / PIN_FILE))

    def _load(self, folder: Path, manifest: Manifest) -> ModelRunner:
        self.loaded[manifest.version] += 1
        self.before(manifest)
        if manifest.version in self.fails:
            raise self.fails[manifest.version]
        return load_fake(folder, manifest)

    def serves(self) -> bool:
        return self.registry.engine is not None

    async def start(self) -> None:
        self.registry.start_loading()
        await until(self.serves)

    async def try_in_vain(self) -> str:
        """Starts, and waits until it has told why it cannot serve; returns that."""
        self.registry.start_loading()
        await until(lambda: "being loaded" not in self.registry.status)
        assert not self.serves()
        with pytest.raises(NotReady) as caught:
            self.registry.current()
        return str(caught.value)

    @property
    def version(self) -> int:
        return self.registry.current().manifest.version

    @property
    def states(self) -> dict[int, str]:
        return {model.version: model.state for model in self.registry.models}


class Table:
    """A service's folders, and its workers."""

    def __init__(self, home: Path) -> None:
        self.models, self.home = home / "models", home / "home"
        self.home.mkdir()
        self.workers: list[Worker] = []

    def worker(self) -> Worker:
        self.workers.append(Worker(self.models, self.home))
        return self.workers[-1]

    def write(self, *versions: int, **changes: str) -> Path:
        for version in versions:
            folder = write_version(self.models / "tiny", version, **changes)
        return folder

    def run(self, check: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await check()
            finally:
                for worker in self.workers:
                    await worker.registry.drain()

        asyncio.run(run())


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_who_comes_later_serves_what_the_first_does(table: Table) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        table.write(1, 2)
        await first.start()
        table.write(3)
        await second.start()
        assert (first.version, second.version) == (2, 2)
        assert second.states == {3: "found", 2: "ready", 1: "found"}
        assert second.loaded == {2: 1}
        assert second.registry.ready

    table.run(check)


def test_all_tell_the_same_reasons(table: Table) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        (table.write(1, 2) / "weights.bin").write_bytes(b"other")
        await first.start()
        await second.start()
        assert first.states == second.states == {2: "refused", 1: "ready"}
        reasons = [[m.reason for m in worker.registry.models] for worker in (first, second)]
        assert reasons[0] == reasons[1]
        assert "weights.bin" in reasons[0][0]

    table.run(check)


def test_what_fails_once_is_tried_again_and_no_older_version_taken(table: Table) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        table.write(1, 2)
        await first.start()
        second.fails[2] = MemoryError()
        told = await second.try_in_vain()
        assert told == (
            "version 2 is served, and this worker cannot load it: loading failed: MemoryError"
        )
        assert not first.registry.ready
        second.fails.clear()
        await until(second.serves)
        assert (first.version, second.version) == (2, 2)
        assert second.loaded.keys() == {2}
        assert first.registry.ready

    table.run(check)


def test_of_two_that_begin_together_the_slower_follows(table: Table) -> None:
    """The quicker one could not load the newest."""
    quick, slow = table.worker(), table.worker()

    async def check() -> None:
        table.write(1, 2)
        quick.fails[2] = OSError(5, "disk")

        def wait(manifest: Manifest) -> None:
            if manifest.version == 2:
                asyncio.run(until(quick.serves))

        slow.before = wait
        slow.registry.start_loading()
        await until(lambda: slow.loaded[2] == 1)
        await quick.start()
        await until(slow.serves)
        assert (quick.version, slow.version) == (1, 1)
        assert quick.states == slow.states == {2: "refused", 1: "ready"}
        assert slow.registry.ready

    table.run(check)


def test_other_weights_under_the_same_number_are_not_taken_while_somebody_serves(
    table: Table,
) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        folder = table.write(1)
        await first.start()
        before = first.registry.current().manifest.checksum
        shutil.rmtree(folder)
        table.write(1, created="2027-01-01T00:00:00+00:00")
        assert f"{folder} holds other weights than when it was loaded" in await second.try_in_vain()
        assert second.loaded == {}
        assert first.registry.current().manifest.checksum == before
        # Nobody is held to what nobody has any more.
        await first.registry.drain()
        await until(second.serves)
        assert second.registry.current().manifest.checksum != before

    table.run(check)


def test_a_folder_that_is_gone_is_told_and_left_when_nobody_serves_it(table: Table) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        folder = table.write(1, 2)
        await first.start()
        shutil.rmtree(folder)
        assert (await second.try_in_vain()).endswith("cannot load it: its folder is gone")
        await first.registry.drain()
        await until(second.serves)
        assert second.version == 1

    table.run(check)


def test_a_version_outlives_its_workers(table: Table) -> None:
    """Though the next could not load it at once, and there is a newer one by then."""
    first, second = table.worker(), table.worker()

    async def check() -> None:
        table.write(1)
        await first.start()
        await first.registry.drain()
        table.write(2)
        second.fails[1] = MemoryError()
        second.registry.start_loading()
        await until(lambda: second.loaded[1] >= 3)
        second.fails.clear()
        await until(second.serves)
        assert second.version == 1
        assert second.loaded.keys() == {1}

    table.run(check)


def test_a_version_that_comes_to_a_service_without_any_is_served(table: Table) -> None:
    first, second = table.worker(), table.worker()

    async def check() -> None:
        for worker in (first, second):
            assert "there is no version" in await worker.try_in_vain()
        table.write(7)
        for worker in (first, second):
            await until(worker.serves)
            assert worker.version == 7

    table.run(check)


def test_a_folder_that_is_replaced_while_it_is_loaded_is_not_served(table: Table) -> None:
    worker = table.worker()

    async def check() -> None:
        folder = table.write(1)

        def replace(_: Manifest) -> None:
            shutil.rmtree(folder)
            table.write(1, created="2027-01-01T00:00:00+00:00")
            worker.before = lambda _: None

        worker.before = replace
        await worker.start()
        assert worker.loaded == {1: 2}
        assert worker.registry.current().manifest.created.startswith("2027")

    table.run(check)


ERRORS = st.sampled_from([ModelRefused("no"), MemoryError(), None])


# Each example has files that are open until the garbage collector comes.
@pytest.mark.long
@settings(max_examples=30)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys((1, 2, 3), ERRORS)), min_size=2, max_size=4))
def test_whatever_fails_at_first_all_serve_the_same(
    tmp_path_factory: pytest.TempPathFactory, failures: list[dict[int, Exception | None]]
) -> None:
    table = Table(tmp_path_factory.mktemp("many"))
    table.write(1, 2, 3)

    async def check() -> None:
        for fails in failures:
            worker = table.worker()
            worker.fails = {version: error for version, error in fails.items() if error}

            def forgive(manifest: Manifest, worker: Worker = worker) -> None:
                if worker.loaded[manifest.version] > 1:
                    worker.fails.pop(manifest.version, None)

            worker.before = forgive
            worker.registry.start_loading()
        for worker in table.workers:
            await until(worker.serves)
        assert len({worker.version for worker in table.workers}) == 1

    table.run(check)
