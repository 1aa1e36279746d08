"""`Registry`: finds the versions of the model, verifies, loads and warms the newest whole one.

Loading runs in a thread of its own, so that the service answers `/healthz` from the start. A
version that is not whole is refused with a reason that `/models` and `/readyz` tell; the next older
one is tried instead.
"""

import asyncio
import gc
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.board import Place
from app.codec.model import Codec
from app.codec.sequences import Limits
from app.engine.cost import Cost
from app.engine.engine import Engine
from app.engine.runner import ModelRunner, RunnerLoader, on_accelerator
from app.engine.scheduler import Sizes
from app.errors import Fault, ModelRefused, NotReady, ShuttingDown, UnknownModel, quoted
from app.manifest import Manifest, verified_manifest
from app.settings import Settings, available_cores

logger = logging.getLogger(__name__)

# Characters of a reason as callers see it; the log has all of it.
MAX_REASON = 300
# The event loop may be away for so many seconds.
MAX_HOLD_S = 0.05

ModelState = Literal["found", "loading", "ready", "refused"]


@dataclass
class Model:
    """One version: where it is, what it is, and the engine that runs it once it is ready."""

    name: str
    version: int
    folder: Path
    state: ModelState = "found"
    reason: str = ""
    manifest: Manifest | None = None
    engine: Engine | None = None


@dataclass(frozen=True)
class Ready:
    """A model that answers."""

    manifest: Manifest
    codec: Codec
    engine: Engine


class Registry:
    """The versions of the model that the settings name.

    Args:
        settings: folder, name, and the engine's sizes.
        load_runner: makes the kernel.
        place: on the board of the service.
    """

    def __init__(self, settings: Settings, load_runner: RunnerLoader, place: Place) -> None:
        self._settings = settings
        self._load_runner = load_runner
        self.place = place
        self._drain: asyncio.Task[None] | None = None
        self._current: Ready | None = None
        self._loader: threading.Thread | None = None
        self._stopping = False
        self.models: list[Model] = []
        self._status = "the model is being loaded"  # as long as none is

    def start_loading(self) -> None:
        """Begins to load the newest version that is whole; what goes wrong is told by `status`."""
        # A daemon: whoever stops the service does not wait for a model that nobody will use.
        self._loader = threading.Thread(
            target=self._load, args=(asyncio.get_running_loop(),), name="loader", daemon=True
        )
        self._loader.start()

    @property
    def name(self) -> str:
        """Of the model."""
        return self._settings.model

    @property
    def status(self) -> str:
        """Why the service is not ready, when it is not."""
        if self._stopping:
            return "the service is stopping"
        if self._current is None:
            return self._status
        if not self._current.engine.alive:
            return "the lanes of the engine have stopped"
        return "another worker of the service is still loading the model"

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded."""
        return self._loader is not None and self._loader.is_alive()

    def current(self, name: str | None = None, version: int | None = None) -> Ready:
        """The ready model; a caller that names one gets that one or an error.

        Raises:
            UnknownModel: this service does not have that name or version.
            NotReady: nothing is loaded yet, or its lanes have stopped.
            ShuttingDown: the service is stopping.
        """
        if name is not None and name != self.name:
            raise UnknownModel(
                Fault(
                    "/model",
                    f"there is no model {quoted(name)}; this service has {self.name!r}",
                )
            )
        if self._stopping:
            raise ShuttingDown("the service is stopping")
        if self._current is None or not self._current.engine.alive:
            raise NotReady(self.status)
        served = self._current.manifest.version
        if version is not None and version != served:
            raise UnknownModel(
                Fault("/model/version", f"version {version} is not served; version {served} is")
            )
        return self._current

    @property
    def engine(self) -> Engine | None:
        """The engine of the ready model."""
        return self._current.engine if self._current else None

    @property
    def ready(self) -> bool:
        """Whether a model answers here, with its lanes alive, and in all other workers."""
        current = self._current
        return (
            current is not None
            and not self._stopping
            and current.engine.alive
            and self.place.board.ready
        )

    def drain(self) -> asyncio.Task[None]:
        """Takes no more requests, lets running ones finish and stops the lanes."""
        if self._drain is None:
            self._stopping = True
            self.place.set_ready(False)
            self._drain = asyncio.get_running_loop().create_task(self._drain_engine())
        return self._drain

    async def _drain_engine(self) -> None:
        if self._current is not None:
            await self._current.engine.drain(self._settings.drain_timeout_s)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._load_newest(loop)
        except Exception as error:
            self._status = f"loading failed: {type(error).__name__}"
            logger.exception("loading failed")

    def _load_newest(self, loop: asyncio.AbstractEventLoop) -> None:
        home = self._settings.models_dir / self._settings.model
        self.models = find_models(home)
        for model in self.models:
            model.state = "loading"
            try:
                self._load_one(model, loop)
            except Exception as error:
                # `ModelRefused` says why. Anything else is told by its name, and by its trace here.
                known = isinstance(error, ModelRefused)
                model.state = "refused"
                reason = str(error) if known else f"loading failed: {type(error).__name__}"
                model.reason = reason[:MAX_REASON]
                text = "refused %s version %d: %s"
                logger.error(text, model.name, model.version, reason, exc_info=not known)
            else:
                # What was loaded stays. A full collection would look at all of TensorFlow's objects
                # while every caller waits.
                gc.collect()
                gc.freeze()
                logger.info("%s version %d is ready", model.name, model.version)
                return
        if self.models:
            self._status = f"no version of {home} could be loaded: {self.models[0].reason}"
        else:
            self._status = f"there is no version in {home}; train one with python -m model.train"
        logger.error(self._status)

    def _load_one(self, model: Model, loop: asyncio.AbstractEventLoop) -> None:
        settings = self._settings
        model.manifest = verified_manifest(model.folder)
        runner = self._load_runner(model.folder, model.manifest)
        warn_of_idle_cores(settings, runner)
        cost = runner.warm_up(settings.slots_per_lane, settings.max_chunk_steps)
        threads = settings.lanes or lane_threads(runner, cost)
        model.engine = Engine(
            runner,
            cost,
            Sizes(
                lanes=max(1, threads),
                slots=max(1, threads) * settings.slots_per_lane,
                chunk_rows=settings.slots_per_lane,
                chunk_steps=settings.max_chunk_steps,
                waiting=settings.max_waiting_sequences,
                waiting_steps=settings.max_waiting_steps,
            ),
            threads=threads > 0,
            counters=self.place.counters,
        )
        model.engine.start(loop)
        model.state = "ready"
        limits = Limits(settings.max_sequences, settings.max_sequence_steps)
        self._current = Ready(model.manifest, Codec.of(model.manifest, limits), model.engine)
        self.place.set_ready(not self._stopping)


def warn_of_idle_cores(settings: Settings, runner: ModelRunner) -> None:
    """Says so where there is one worker for the sake of an accelerator that is not used."""
    if settings.beside_accelerator and not on_accelerator(runner.devices):
        logger.warning(
            "there is a driver of an accelerator, so there is one worker, but %s runs on the CPU: "
            "set UNROLL_WORKERS=%d for all cores; docs/operating.md says what CUDA needs",
            runner.kernel,
            available_cores(),
        )


def lane_threads(runner: ModelRunner, cost: Cost) -> int:
    """How many threads compute chunks; 0 where the event loop can do that by itself.

    Layers on several devices are the stages of a pipeline: a chunk in flight for each keeps all of
    them busy. A single accelerator has one chunk while the next is packed. On the processor a
    worker has a core, and a thread gains nothing unless chunks are so long that the event loop
    would seem to hang.
    """
    stages = len(set(runner.devices))
    if stages > 1 or on_accelerator(runner.devices):
        return max(2, stages)
    return int(cost.shortest_s() > MAX_HOLD_S)


def find_models(home: Path) -> list[Model]:
    """The versions in `models/<name>`, newest first. Hidden folders are exports under way."""
    if not home.is_dir():
        return []
    names = [p.name for p in home.iterdir() if p.name.isdecimal() and p.is_dir()]
    # `01` is not where version 1 is looked for.
    numbers = [int(name) for name in names if name == str(int(name))]
    return [
        Model(home.name, number, home / str(number)) for number in sorted(numbers, reverse=True)
    ]
