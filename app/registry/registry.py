"""`Registry`: finds the versions of the model, verifies, loads and warms the newest whole one.

Loading runs in a thread of its own, so that the service answers `/healthz` from the start. A
version that is not whole is refused with a reason that `/models` and `/readyz` tell; the next older
one is tried instead. Once a worker has loaded one, the others serve the same (`Agreement`). A
worker that has nothing to serve tries again now and then.
"""

import asyncio
import gc
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from app.codec.model import Codec
from app.codec.sequences import Limits
from app.engine.engine import Engine
from app.engine.lanes import lane_threads, slots_per_lane
from app.engine.runner import ModelRunner, RunnerLoader, most_rows, on_accelerator
from app.engine.scheduler import Sizes
from app.errors import Fault, ModelRefused, NotReady, ShuttingDown, UnknownModel, quoted
from app.manifest import Manifest, verified_manifest
from app.registry.pinned_version import Agreement, Served
from app.registry.versions import Model, find_models
from app.settings import Settings, available_cores
from app.stats.shared_stats import Place

logger = logging.getLogger(__name__)

# Characters of a reason as callers see it; the log has all of it.
MAX_REASON = 300
# Seconds between two attempts to load: first, and at most, since each costs what loading costs.
RETRY_S, MAX_RETRY_S = 1.0, 60.0


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
        agreement: of its workers; None for one that is alone.

    Attributes:
        models: the versions there are, newest first.
        loading: whether one is being loaded just now.
    """

    def __init__(
        self,
        settings: Settings,
        load_runner: RunnerLoader,
        place: Place,
        agreement: Agreement | None = None,
    ) -> None:
        self._settings = settings
        self._load_runner = load_runner
        self.place = place
        self._agreement = agreement or Agreement()
        self._drain: asyncio.Task[None] | None = None
        self._current: Ready | None = None
        self._stopping = threading.Event()
        self.models: list[Model] = []
        self.loading = False
        self._status = "the model is being loaded"  # as long as none is

    def start_loading(self) -> None:
        """Begins to load the version that the other workers serve, or else the newest that is
        whole; what goes wrong is told by `status`."""
        self.loading = True
        # A daemon: whoever stops the service does not wait for a model that nobody will use.
        threading.Thread(
            target=self._load, args=(asyncio.get_running_loop(),), name="loader", daemon=True
        ).start()

    @property
    def name(self) -> str:
        """Of the model."""
        return self._settings.model

    @property
    def status(self) -> str:
        """Why the service is not ready, when it is not."""
        if self._stopping.is_set():
            return "the service is stopping"
        if self._current is None:
            return self._status
        if not self._current.engine.alive:
            return "the lanes of the engine have stopped"
        return "another worker of the service is still loading the model"

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
        if self._stopping.is_set():
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
            and not self._stopping.is_set()
            and current.engine.alive
            and self.place.board.ready
        )

    def drain(self) -> asyncio.Task[None]:
        """Takes no more requests, lets running ones finish and stops the lanes."""
        if self._drain is None:
            self._stopping.set()
            self.place.set_ready(False)
            self._drain = asyncio.get_running_loop().create_task(self._drain_engine())
        return self._drain

    @property
    def drained(self) -> bool:
        """Whether `drain` has ended: nothing is computed any more."""
        return self._drain is not None and self._drain.done()

    async def _drain_engine(self) -> None:
        if self._current is not None:
            await self._current.engine.drain(self._settings.drain_timeout_s)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called in the loader's thread, which ends once this worker serves."""
        pause_s = RETRY_S
        while True:
            self.loading = True
            try:
                self._attempt(loop)
            except Exception as error:
                self._status = f"loading failed: {type(error).__name__}"
                logger.exception("loading failed")
            self.loading = False
            if self._current is not None or self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _attempt(self, loop: asyncio.AbstractEventLoop) -> None:
        self.models = find_models(self._settings.models_dir / self._settings.model)
        if (served := self._served()) is None:
            self._load_newest(loop)
            # Others may have decided meanwhile.
            served = self._served()
        if self._current is None and served is not None:
            self._load_same(served, loop)

    def _served(self) -> Served | None:
        with self._agreement as agreement:
            return agreement.served

    def _load_newest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Loads the newest version that is whole, unless others decide first."""
        for model in self.models:
            self._load_one(model, loop)
            if self._served() is not None:
                return
        home = self._settings.models_dir / self._settings.model
        if self.models:
            self._tell(f"no version of {home} could be loaded: {self.models[0].reason}")
        else:
            self._tell(f"there is no version in {home}; train one with python -m model.train")

    def _load_same(self, served: Served, loop: asyncio.AbstractEventLoop) -> None:
        """Loads what the other workers serve, or leaves it if no worker can."""
        reason, for_good = "its folder is gone", True
        for model in self.models:
            model.reason = served.refused.get(model.version, "")
            model.state = "refused" if model.reason else "found"
            if model.version == served.version:
                error = self._load_one(model, loop, served.checksum)
                if error is None:
                    return
                reason, for_good = model.reason, isinstance(error, ModelRefused)
        self._tell(f"version {served.version} is served, and this worker cannot load it: {reason}")
        if for_good:
            self._leave(served)

    def _leave(self, served: Served) -> None:
        """Nobody is held to a version that nobody serves any more."""
        with self._agreement as agreement:
            serving = any(worker.ready for worker in self.place.board.living())
            if agreement.served == served and not serving:
                agreement.settle(None)

    def _tell(self, status: str) -> None:
        if status != self._status:
            logger.error(status)
        self._status = status

    def _load_one(
        self, model: Model, loop: asyncio.AbstractEventLoop, checksum: str | None = None
    ) -> Exception | None:
        """Loads a version, and serves it if all do; returns why it cannot be loaded.

        Args:
            model: which.
            loop: of this worker.
            checksum: of the manifest that it must have; None for any.
        """
        model.state = "loading"
        try:
            model.manifest = verified_manifest(model.folder)
            if checksum not in (None, model.manifest.checksum):
                raise ModelRefused(f"{model.folder} holds other weights than when it was loaded")
            engine = self._engine_of(model.folder, model.manifest)
            if verified_manifest(model.folder).checksum != model.manifest.checksum:
                raise ModelRefused(f"{model.folder} was replaced while it was loaded")
            # A full collection looks at all objects of the kernel's library and holds Python's
            # lock: callers would wait for it. `_join` sees to it that none comes later.
            gc.collect()
            self._join(model, model.manifest, engine, loop)
        except Exception as error:
            # `ModelRefused` says why. Anything else is told by its name, and by its trace here.
            known = isinstance(error, ModelRefused)
            model.state = "refused"
            reason = str(error) if known else f"loading failed: {type(error).__name__}"
            model.reason = reason[:MAX_REASON]
            text = "refused %s version %d: %s"
            logger.error(text, model.name, model.version, reason, exc_info=not known)
            return error
        return None

    def _engine_of(self, folder: Path, manifest: Manifest) -> Engine:
        """A version's engine, warm and not started."""
        settings = self._settings
        runner = self._load_runner(folder, manifest)
        warn_of_idle_cores(settings, runner)
        most = settings.slots_per_lane or most_rows(runner.devices)
        cost = runner.warm_up(most, settings.max_chunk_steps)
        slots = settings.slots_per_lane or slots_per_lane(runner, cost)
        threads = settings.lanes or lane_threads(runner, cost)
        return Engine(
            runner,
            cost,
            Sizes(
                lanes=max(1, threads),
                slots=max(1, threads) * slots,
                chunk_rows=slots,
                chunk_steps=settings.max_chunk_steps,
                waiting=settings.max_waiting_sequences,
                waiting_steps=settings.max_waiting_steps,
            ),
            threads=threads > 0,
            counters=self.place.counters,
        )

    def _join(
        self, model: Model, manifest: Manifest, engine: Engine, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Serves a version if that is what all serve, or if this worker is the first."""
        limits = Limits(self._settings.max_sequences, self._settings.max_sequence_steps)
        ready = Ready(manifest, Codec.of(manifest, limits), engine)
        refused = {other.version: other.reason for other in self.models if other.reason}
        # Until it is ready: a version is left when nobody is.
        with self._agreement as agreement:
            if agreement.served is None:
                agreement.settle(Served(model.version, manifest.checksum, refused))
            elif agreement.served.checksum != manifest.checksum:
                model.state = "found"
                return
            gc.freeze()
            engine.start(loop)
            model.engine, model.state = engine, "ready"
            self._current = ready
            self.place.set_ready(not self._stopping.is_set())
        logger.info("%s version %d is ready", model.name, model.version)


def warn_of_idle_cores(settings: Settings, runner: ModelRunner) -> None:
    """Says so where there is one worker for the sake of an accelerator that is not used."""
    if settings.beside_accelerator and not on_accelerator(runner.devices):
        logger.warning(
            "there is a driver of an accelerator, so there is one worker, but %s runs on the CPU: "
            "set UNROLL_WORKERS=%d for all cores; docs/operating.md says what CUDA needs",
            runner.kernel,
            available_cores(),
        )
