"""`Registry`: finds the versions of the model, verifies, loads and warms the newest whole one.

Loading runs in a thread of its own, so that the service answers `/healthz` from the start. A
version that is not whole is refused with a reason that `/models` and `/readyz` tell; the next older
one is tried instead. Once a worker has loaded a version, the others serve the same
(`AgreedVersion`). A worker that has nothing to serve tries again after a pause.
"""

import asyncio
import gc
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.codec import arrow
from app.codec.model_codec import Codec, check_name
from app.codec.sequences import Limits
from app.engine.engine import Engine
from app.engine.runner_interface import RunnerLoader
from app.errors import ModelRefused, NotReady, ShuttingDown
from app.manifest import Manifest, verified_manifest
from app.registry.agreed_version import AgreedVersion, Pin
from app.registry.engine_factory import warm_engine
from app.registry.versions import ModelVersion, find_versions
from app.settings import Settings
from app.stats.shared_stats import WorkerStats

logger = logging.getLogger(__name__)

# Characters of a reason as callers see it; the log has all of it.
MAX_REASON = 300
# Seconds between two attempts to load: first, and at most, since each costs what loading costs.
RETRY_S, MAX_RETRY_S = 1.0, 60.0


@dataclass(frozen=True)
class LoadedModel:
    """A model that answers."""

    manifest: Manifest
    codec: Codec
    engine: Engine


class Registry:
    """The versions of the model that the settings name.

    Args:
        settings: folder, name, and the engine's sizes.
        load_runner: makes the kernel.
        stats: of this worker.
        pinned: what the workers of the service share; None for a worker that is alone.

    Attributes:
        stats: of this worker.
        models: the versions there are, newest first.
        loading: whether one is being loaded just now.
        have_begun: returns once requests have begun that have come before; a drain takes them.
    """

    def __init__(
        self,
        settings: Settings,
        load_runner: RunnerLoader,
        stats: WorkerStats,
        pinned: AgreedVersion | None = None,
    ) -> None:
        self._settings = settings
        self._load_runner = load_runner
        self.stats = stats
        self._pinned = pinned or AgreedVersion()
        self._drain: asyncio.Task[None] | None = None
        self.have_begun: Callable[[], Awaitable[None]] | None = None
        self._is_leaving = False
        self._is_failing = False
        self._current: LoadedModel | None = None
        self._stopping = threading.Event()
        self.models: list[ModelVersion] = []
        self.loading = False
        self._status = "the model is being loaded"  # told until one is

    def start_loading(self) -> None:
        """Begins to load the pinned version, or else the newest that is whole.

        `status` tells what goes wrong.
        """
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
        """Why the service is not ready; meaningless while it is."""
        if self.stopping:
            return "the service is stopping"
        if self._current is None:
            return self._status
        if not self._current.engine.alive:
            return "the lanes of the engine have stopped"
        if trouble := self.stats.shared.trouble:
            return f"{trouble}; the log says more"
        return "another worker of the service is still loading the model"

    def current(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """The ready model; a caller that names one gets that one or an error.

        Raises:
            UnknownModel: this service does not have that name or version.
            NotReady: nothing is loaded yet, or its lanes have stopped.
            ShuttingDown: the service is stopping.
        """
        current = self._current
        if name is not None:
            check_name(name, self.name)
        if self._stopping.is_set():
            raise ShuttingDown("the service is stopping")
        if current is None or not current.engine.alive:
            raise NotReady(self.status)
        if version is not None:
            current.codec.check_version(version)
        return current

    @property
    def engine(self) -> Engine | None:
        """The engine of the ready model."""
        return self._current.engine if self._current else None

    @property
    def ready(self) -> bool:
        """Whether the service answers, by this worker or another, and is to go on."""
        self.tell()
        return not self.stopping and self.stats.shared.ready

    @property
    def answers(self) -> bool:
        """Whether a model answers here, with its lanes alive."""
        current = self._current
        return current is not None and not self._stopping.is_set() and current.engine.alive

    @property
    def stopping(self) -> bool:
        """Whether the service, or this worker, has been told to stop; it may answer still."""
        return self._is_leaving or self.stats.shared.stopping

    @property
    def sends_away(self) -> bool:
        """Whether callers had better go elsewhere with their next request: to another connection.

        This worker is to stop, or does not answer while another does.
        """
        stats = self.stats
        # Asked with each answer: the words themselves cost no call.
        if self._is_leaving or stats.shared.parent.stopping:
            return True
        return not stats.row.ready and stats.others_answer

    def tell(self) -> None:
        """Tells the other processes of the service how this one is."""
        current, goes_on = self._current, not self._is_leaving
        lanes_stopped = current is not None and not current.engine.alive
        self.stats.set_ready(
            self.answers and goes_on, goes_on and (self._is_failing or lanes_stopped)
        )

    def leave(self) -> None:
        """Says from now on that this worker is to stop, and goes on answering until `drain`."""
        self._is_leaving = True
        self.tell()

    def drain(self) -> asyncio.Task[None]:
        """Takes no more requests, lets running ones finish and stops the lanes."""
        if self._drain is None:
            self._stopping.set()
            self.leave()
            self._drain = asyncio.get_running_loop().create_task(self._drain_engine())
        return self._drain

    @property
    def drained(self) -> bool:
        """Whether `drain` has ended: nothing is computed any more."""
        return self._drain is not None and self._drain.done()

    async def _drain_engine(self) -> None:
        if self._current is not None:
            timeout_s = self._settings.drain_timeout_s
            await self._current.engine.drain(timeout_s, self.have_begun)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called in the loader's thread, which ends once this worker serves."""
        arrow.warm_up()
        pause_s = RETRY_S
        while True:
            self.loading = True
            try:
                self._attempt(loop)
            except Exception as error:
                self._status = f"loading failed: {type(error).__name__}"
                self._is_failing = True
                logger.exception("loading failed")
            self.loading = False
            if self._current is not None or self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, MAX_RETRY_S)

    def _attempt(self, loop: asyncio.AbstractEventLoop) -> None:
        self.models = find_versions(self._settings.models_dir / self._settings.model)
        if (pin := self._read_pin()) is None:
            self._load_newest(loop)
            # Another worker may have pinned a version meanwhile.
            pin = self._read_pin()
        if self._current is None and pin is not None:
            self._load_pinned(pin, loop)

    def _read_pin(self) -> Pin | None:
        with self._pinned as pinned:
            return pinned.read()

    def _load_newest(self, loop: asyncio.AbstractEventLoop) -> None:
        """Loads the newest version that is whole, unless another worker pins one first."""
        for model in self.models:
            self._load_one(model, loop)
            if self._read_pin() is not None:
                return
        home = self._settings.models_dir / self._settings.model
        if self.models:
            self._set_status(f"no version of {home} could be loaded: {self.models[0].reason}")
        else:
            self._set_status(f"there is no version in {home}; train one with python -m model.train")

    def _load_pinned(self, pin: Pin, loop: asyncio.AbstractEventLoop) -> None:
        """Loads the pinned version, or takes the pin away if no worker can serve it."""
        reason, for_good = "its folder is gone", True
        for model in self.models:
            model.reason = pin.refused.get(model.version, "")
            model.state = "refused" if model.reason else "found"
            if model.version == pin.version:
                error = self._load_one(model, loop, pin.checksum)
                if error is None:
                    return
                reason, for_good = model.reason, isinstance(error, ModelRefused)
        self._set_status(
            f"version {pin.version} is served, and this worker cannot load it: {reason}"
        )
        if for_good:
            self._unpin(pin)

    def _unpin(self, pin: Pin) -> None:
        """Takes a pin away whose version no worker serves any more."""
        with self._pinned as pinned:
            serving = any(worker.ready for worker in self.stats.shared.living())
            if pinned.read() == pin and not serving:
                pinned.write(None)

    def _set_status(self, status: str) -> None:
        if status != self._status:
            logger.error(status)
        self._status = status
        self._is_failing = True

    def _load_one(
        self, model: ModelVersion, loop: asyncio.AbstractEventLoop, checksum: str | None = None
    ) -> Exception | None:
        """Loads a version, and serves it unless another is pinned; returns why it cannot be loaded.

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
            runner = self._load_runner(model.folder, model.manifest)
            engine = warm_engine(self._settings, runner, self.stats.counters)
            if verified_manifest(model.folder).checksum != model.manifest.checksum:
                raise ModelRefused(f"{model.folder} was replaced while it was loaded")
            # A full collection looks at all objects of the kernel's library and holds Python's
            # lock: callers would wait for it. `_serve` sees to it that none comes later.
            gc.collect()
            self._serve(model, model.manifest, engine, loop)
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

    def _serve(
        self,
        model: ModelVersion,
        manifest: Manifest,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Serves a version if it is the pinned one, or pins it if there is no pin."""
        limits = Limits(self._settings.max_sequences, self._settings.max_sequence_steps)
        ready = LoadedModel(manifest, Codec.of(manifest, limits), engine)
        refused = {other.version: other.reason for other in self.models if other.reason}
        # The lock is held until this worker is ready: `_unpin` looks whether any worker is.
        with self._pinned as pinned:
            pin = pinned.read()
            if pin is None:
                pinned.write(Pin(model.version, manifest.checksum, refused))
            elif pin.checksum != manifest.checksum:
                model.state = "found"
                return
            gc.freeze()
            engine.start(loop)
            model.engine, model.state = engine, "ready"
            self._current = ready
            self._is_failing = False
            self.tell()
        logger.info("%s version %d is ready", model.name, model.version)
