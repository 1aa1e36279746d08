"""Which version is served, and what is told when there is none."""

import asyncio
import gc
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import settings as settings_module
from app.engine.cost_model import Cost
from app.engine.runner_interface import ModelRunner, RunnerLoader
from app.engine.sequence import Sequence
from app.errors import ModelRefused, NotReady, ShuttingDown, UnknownModel
from app.manifest import Manifest
from app.registry.engine_factory import lane_threads
from app.registry.registry import Registry
from app.registry.versions import find_versions
from app.settings import Settings
from app.stats.shared_stats import SharedStats
from tests.app.fakes import FakeRunner, load_fake, write_version


def registry_of(
    models_dir: Path, load_runner: RunnerLoader = load_fake, **changes: Any
) -> Registry:
    settings = Settings(models_dir=models_dir, **{"model": "tiny", **changes})
    return Registry(settings, load_runner, SharedStats().claim())


def with_loaded(
    models_dir: Path,
    check: Callable[[Registry], Any],
    load_runner: RunnerLoader = load_fake,
    **changes: Any,
) -> None:
    """Runs `check` when loading is over, and drains."""
    sizes = {"lanes": 2, "slots_per_lane": 4}
    registry = registry_of(models_dir, load_runner, **{**sizes, **changes})

    async def run() -> None:
        registry.start_loading()
        while registry.loading:
            await asyncio.sleep(0.001)
        try:
            made = check(registry)
            if made is not None:
                await made
        finally:
            await registry.drain()

    asyncio.run(run())


def states(registry: Registry) -> dict[int, str]:
    return {model.version: model.state for model in registry.models}


async def answer(registry: Registry) -> float:
    sequence = Sequence(np.array([[1], [2], [3]], np.float32))
    await registry.current().engine.submit([sequence])
    return float(sequence.outputs[-1, 0])


def fails_for(version: int, error: BaseException) -> RunnerLoader:
    def load(folder: Path, manifest: Manifest) -> ModelRunner:
        if manifest.version == version:
            raise error
        return load_fake(folder, manifest)

    return load


def test_versions_are_found_newest_first_by_number(tmp_path: Path) -> None:
    for name in ("2", "10", "9", ".export-11", "latest", "-3", "1.5"):
        (tmp_path / "tiny" / name).mkdir(parents=True)
    (tmp_path / "tiny" / "12").write_text("not a folder")
    found = find_versions(tmp_path / "tiny")
    assert [model.version for model in found] == [10, 9, 2]
    assert {(model.name, model.folder.parent, model.state) for model in found} == {
        ("tiny", tmp_path / "tiny", "found")
    }


def test_a_folder_whose_number_is_written_otherwise_is_no_version(tmp_path: Path) -> None:
    for name in ("1", "01", "٢"):
        (tmp_path / name).mkdir()
    assert [model.folder.name for model in find_versions(tmp_path)] == ["1"]


def test_no_folder_is_no_version(tmp_path: Path) -> None:
    assert find_versions(tmp_path / "absent") == []


def test_the_newest_version_is_served(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        write_version(tmp_path / "tiny", version)

    async def check(registry: Registry) -> None:
        assert registry.ready
        assert registry.current().manifest.version == 10
        assert states(registry) == {10: "ready", 2: "found", 1: "found"}
        assert await answer(registry) == 6.0

    with_loaded(tmp_path, check)


def test_a_broken_newest_falls_back_to_the_older_and_says_why(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)
    broken = write_version(tmp_path / "tiny", 2)
    (broken / "weights.bin").write_bytes(b"Weights of a fake")

    async def check(registry: Registry) -> None:
        assert registry.current().manifest.version == 1
        assert states(registry) == {2: "refused", 1: "ready"}
        assert str(broken / "weights.bin") in registry.models[0].reason
        assert registry.models[1].reason == ""
        assert await answer(registry) == 6.0

    with_loaded(tmp_path, check)


ANY_ERROR = [
    ModelRefused("it is not what it says"),
    RuntimeError("a bug"),
    MemoryError(),
    OSError(5, "disk"),
    AssertionError("this is a bug"),
    KeyError("chunk"),
]


@pytest.mark.parametrize("error", ANY_ERROR, ids=lambda error: type(error).__name__)
def test_a_version_whose_loader_raises_falls_back_too(tmp_path: Path, error: Exception) -> None:
    for version in (1, 2):
        write_version(tmp_path / "tiny", version)

    async def check(registry: Registry) -> None:
        assert registry.ready
        assert states(registry) == {2: "refused", 1: "ready"}
        assert registry.models[0].reason
        assert await answer(registry) == 6.0

    with_loaded(tmp_path, check, fails_for(2, error))


@pytest.mark.parametrize("error", ANY_ERROR, ids=lambda error: type(error).__name__)
def test_a_loader_that_raises_leaves_the_registry_alive(tmp_path: Path, error: Exception) -> None:
    write_version(tmp_path / "tiny", 1)

    def check(registry: Registry) -> None:
        assert not registry.ready
        assert not registry.loading
        assert states(registry) == {1: "refused"}
        expected = str(error) if isinstance(error, ModelRefused) else type(error).__name__
        assert expected in registry.models[0].reason
        with pytest.raises(NotReady, match=expected):
            registry.current()

    with_loaded(tmp_path, check, fails_for(1, error))


def test_a_warm_up_that_fails_refuses_the_version(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)

    class Disagrees(FakeRunner):
        def warm_up(self, max_rows: int, max_steps: int) -> None:
            raise ModelRefused(f"wrong at {max_rows} rows and {max_steps} time steps")

    def check(registry: Registry) -> None:
        assert states(registry) == {1: "refused"}
        assert registry.models[0].reason == "wrong at 4 rows and 32 time steps"

    with_loaded(tmp_path, check, lambda *_: Disagrees(), max_chunk_steps=32)


def test_all_versions_broken_tells_each_reason(tmp_path: Path) -> None:
    for version in (1, 2):
        (write_version(tmp_path / "tiny", version) / "weights.bin").unlink()

    def check(registry: Registry) -> None:
        assert states(registry) == {2: "refused", 1: "refused"}
        for model in registry.models:
            assert model.reason == f"{model.folder / 'weights.bin'}: No such file or directory"
        with pytest.raises(NotReady, match="no version of .* could be loaded: .*/2/weights.bin"):
            registry.current()

    with_loaded(tmp_path, check)


@pytest.mark.parametrize("name", ["", "tiny"])
def test_no_version_is_not_ready_with_a_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)

    def check(registry: Registry) -> None:
        assert registry.engine is None
        with pytest.raises(NotReady) as caught:
            registry.current()
        assert str(caught.value) == (
            f"there is no version in {tmp_path / 'tiny'}; train one with python -m model.train"
        )

    with_loaded(tmp_path, check)


def test_the_garbage_collector_has_run_before_the_first_caller_may_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at all that was loaded, and whoever asks meanwhile waits for it."""
    write_version(tmp_path / "tiny", 1)
    calls: list[tuple[str, bool]] = []

    async def run() -> None:
        registry = registry_of(tmp_path)

        def record(name: str) -> None:
            calls.append((name, registry.engine is not None))

        for name in ("collect", "freeze"):
            monkeypatch.setattr(gc, name, partial(record, name))
        registry.start_loading()
        while registry.loading:
            await asyncio.sleep(0.001)
        assert registry.ready
        await registry.drain()

    asyncio.run(run())
    assert calls == [("collect", False), ("freeze", False)]


def test_before_loading_is_over_it_is_not_ready(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    assert not registry.ready
    with pytest.raises(NotReady, match="the model is being loaded"):
        registry.current()
    with pytest.raises(UnknownModel):
        registry.current("other")


def test_only_the_name_and_version_that_are_served_are_known(tmp_path: Path) -> None:
    for version in (1, 2):
        write_version(tmp_path / "tiny", version)

    def check(registry: Registry) -> None:
        ready = registry.current()
        assert registry.current("tiny") is ready
        assert registry.current("tiny", 2) is ready
        assert registry.current(None, 2) is ready
        for name, version, pointer, message in (
            ("other", None, "/model", "there is no model 'other'; this service has 'tiny'"),
            ("other", 2, "/model", "there is no model 'other'; this service has 'tiny'"),
            ("", None, "/model", "there is no model ''; this service has 'tiny'"),
            ("tiny", 1, "/model/version", "version 1 is not served; version 2 is"),
            ("tiny", 0, "/model/version", "version 0 is not served; version 2 is"),
        ):
            with pytest.raises(UnknownModel) as caught:
                registry.current(name, version)
            (fault,) = caught.value.faults
            assert (fault.pointer, fault.message) == (pointer, message)

    with_loaded(tmp_path, check)


def test_an_unknown_name_is_echoed_in_short(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    with pytest.raises(UnknownModel) as caught:
        registry.current("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_drained_registry_is_not_ready_and_refuses(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)

    async def check(registry: Registry) -> None:
        engine = registry.engine
        assert engine is not None
        assert engine.alive
        await registry.drain()
        assert not registry.ready
        assert not engine.alive
        assert registry.status == "the service is stopping"
        with pytest.raises(ShuttingDown):
            await answer(registry)

    with_loaded(tmp_path, check)


def test_draining_with_nothing_loaded_is_nothing(tmp_path: Path) -> None:
    registry = registry_of(tmp_path)

    async def run() -> None:
        await registry.drain()

    asyncio.run(run())
    assert not registry.ready


def test_draining_twice_is_draining_once(tmp_path: Path) -> None:
    """The protocol of each connection asks for it, and the application at its end."""
    write_version(tmp_path / "tiny", 1)

    async def check(registry: Registry) -> None:
        assert registry.drain() is registry.drain()

    with_loaded(tmp_path, check)


@pytest.mark.parametrize(
    ("devices", "call_s", "threads"),
    [
        (["CPU:0", "CPU:0"], 1e-3, 0),
        (["CPU:0", "CPU:0"], 10.0, 1),
        (["GPU:0", "GPU:0"], 1e-3, 2),
        (["CPU:0", "CPU:1"], 1e-3, 2),
        (["GPU:0", "GPU:1", "GPU:1", "GPU:2"], 1e-3, 3),
    ],
)
def test_chunks_are_computed_on_the_event_loop_unless_that_would_hold_it(
    tmp_path: Path, devices: list[str], call_s: float, threads: int
) -> None:
    write_version(tmp_path / "tiny", 1)
    called_in: set[bool] = set()

    class Runner(FakeRunner):
        def warm_up(self, max_rows: int, max_steps: int) -> Cost:
            return Cost(call_s=call_s, time_step_s=1e-5, row_step_s=0.0)

        def run(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            called_in.add(threading.current_thread() is threading.main_thread())
            return super().run(*arguments)

    async def check(registry: Registry) -> None:
        assert registry.engine is not None
        assert lane_threads(registry.engine.runner, runner.warm_up(1, 1)) == threads
        assert await answer(registry) == 6.0
        assert called_in == {threads == 0}

    runner = Runner()
    runner.devices = tuple(devices)
    with_loaded(tmp_path, check, lambda *_: runner, lanes=0)


@pytest.mark.parametrize(
    ("device", "asked", "measured", "slots"),
    [
        ("CPU:0", 0, 64, 64),
        ("GPU:0", 0, 512, 362),
        ("CPU:0", 4, 4, 4),
        ("GPU:0", 4, 4, 4),
    ],
)
def test_slots_are_as_set_or_as_many_as_use_the_device_well(
    tmp_path: Path, device: str, asked: int, measured: int, slots: int
) -> None:
    write_version(tmp_path / "tiny", 1)
    most: list[int] = []
    # 362 rows of 10 us and 20 us are nine tenths of a chunk of 20 time steps.
    cost = Cost(call_s=1.005e-3, time_step_s=10e-6, row_step_s=1e-6)

    class Runner(FakeRunner):
        devices = (device,)

        def warm_up(self, max_rows: int, max_steps: int) -> Cost:
            most.append(max_rows)
            return cost

    def check(registry: Registry) -> None:
        assert registry.engine is not None
        sizes = registry.engine._scheduler._sizes
        assert most == [measured]
        assert (sizes.chunk_rows, sizes.slots) == (slots, 2 * slots)

    with_loaded(tmp_path, check, lambda *_: Runner(), slots_per_lane=asked)


def test_it_is_ready_once_all_workers_are(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)
    shared = SharedStats(workers=2)
    other = shared.claim()
    settings = Settings(models_dir=tmp_path, model="tiny")
    registry = Registry(settings, load_fake, shared.claim())

    async def run() -> None:
        registry.start_loading()
        while registry.loading:
            await asyncio.sleep(0.001)
        assert not registry.ready
        # It answers whom it is given, nevertheless.
        assert await answer(registry) == 6.0
        other.set_ready(True)
        assert registry.ready
        await registry.drain()
        assert not registry.ready
        # The other one goes on.
        assert shared.ready

    asyncio.run(run())


def test_it_says_why_another_worker_is_not_there(tmp_path: Path) -> None:
    write_version(tmp_path / "tiny", 1)
    shared = SharedStats(workers=2)
    registry = Registry(Settings(models_dir=tmp_path, model="tiny"), load_fake, shared.claim())

    async def run() -> None:
        registry.start_loading()
        while registry.loading:
            await asyncio.sleep(0.001)
        assert not registry.ready
        assert registry.status == "another worker of the service is still loading the model"
        # As the parent does.
        shared.tell_crashing(1, -11)
        # There is nobody to wait for.
        assert registry.ready
        assert registry.status == (
            "1 of the service's workers cannot stay up: the last one was killed by SIGSEGV; "
            "the log says more"
        )
        await registry.drain()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("present", "workers", "device", "warned"),
    [
        (True, 0, "CPU:0", True),
        (True, 0, "GPU:0", False),
        (True, 2, "CPU:0", False),
        (False, 0, "CPU:0", False),
    ],
)
def test_a_driver_without_its_libraries_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    present: bool,
    workers: int,
    device: str,
    warned: bool,
) -> None:
    """There is one worker for the sake of an accelerator that the model cannot use."""
    write_version(tmp_path / "tiny", 1)
    monkeypatch.setattr(settings_module, "accelerator_present", lambda: present)
    runner = FakeRunner()
    runner.devices = (device,)

    def check(registry: Registry) -> None:
        assert registry.engine is not None

    with_loaded(tmp_path, check, lambda *_: runner, workers=workers)
    text = "there is one worker, but fake runs on the CPU: set UNROLL_WORKERS="
    assert any(text in record.getMessage() for record in caplog.records) == warned
