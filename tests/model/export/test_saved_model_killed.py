"""Whenever an export is killed, readers see all of a version or nothing.

A kill takes the process, not the page cache: what a power cut does is up to the order of the
flushes, which `test_export.py` tests.
"""

import os
import pkgutil
import signal
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from app.manifest import verified_manifest
from model.export.saved_model import export_model
from model.export.versions import HIDDEN, existing_versions
from tests.model.children import CONTEXT
from tests.support.exported_models import make_model, no_card

TRIES = 20


def export_once(models_dir: Path, pipe: Connection, deadly: str = "", when: str = "") -> None:
    """Exports in a child; the call named `deadly` kills it `when` it begins or ends."""
    tempfile.tempdir = str(models_dir)  # the killed leave TensorFlow's temporary files behind
    model = make_model(("gru:3",))
    original = pkgutil.resolve_name(deadly) if deadly else None

    def die(*args: Any, **options: Any) -> None:
        if when == "after":
            original(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    pipe.send("exporting")
    if deadly:
        mock.patch(deadly.replace(":", "."), die).start()
    export_model(model, models_dir, "tiny", {}, no_card)
    pipe.send("exported")


class Child:
    """A process that has begun to export."""

    def __init__(self, models_dir: Path, *deadly: str) -> None:
        self.pipe, end = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=export_once, args=(models_dir, end, *deadly))
        self.process.start()
        end.close()
        assert self.pipe.recv() == "exporting"
        self.started = time.monotonic()

    def kill_after(self, seconds: float) -> None:
        """Waits for the end of the export, but no longer than this, then kills."""
        self.pipe.poll(max(0.0, self.started + seconds - time.monotonic()))
        self.process.kill()

    def end(self) -> bool:
        """Whether it came to the end of its export before it died."""
        self.process.join(60)
        assert self.process.exitcode in (0, -signal.SIGKILL), "a kill, and no error"
        try:
            return self.pipe.recv() == "exported"
        except EOFError:
            return False
        finally:
            self.pipe.close()


def new_versions(home: Path, before: list[int]) -> list[int]:
    """The versions since, each checked as the service checks it; all else must be hidden."""
    seen = {path.name for path in home.iterdir() if not path.name.startswith(HIDDEN)}
    versions = existing_versions(home)
    assert seen == set(map(str, versions))
    assert versions[: len(before)] == before
    for version in versions:
        verified_manifest(home / str(version))
    return versions[len(before) :]


def test_twenty_exports_killed_at_random_leave_whole_versions_only(tmp_path: Path) -> None:
    home = tmp_path / "tiny"
    first = Child(tmp_path)
    assert first.end()
    seconds = time.monotonic() - first.started
    versions = new_versions(home, [])
    assert versions == [1]
    killed_between = 0
    for part in np.random.default_rng(0).permutation((np.arange(TRIES) + 0.5) / TRIES):
        child = Child(tmp_path)
        child.kill_after(part * seconds)
        exported = child.end()
        new = new_versions(home, versions)
        assert len(new) <= 1
        assert new or not exported, "an export that came to its end is there"
        versions += new
        killed_between += any(home.glob(f"{HIDDEN}*"))
    # Spread evenly over the time that an export takes: most fall between its first folder and its
    # rename. If they did not, this test would prove nothing.
    assert killed_between >= TRIES // 4
    assert Child(tmp_path).end()
    assert new_versions(home, versions) == [versions[-1] + 1]
    assert not any(home.glob(f"{HIDDEN}*")), "the next export removes what is left"


@pytest.mark.parametrize(
    ("deadly", "when", "visible"),
    [
        ("tensorflow.saved_model:save", "before", False),
        ("tensorflow.saved_model:save", "after", False),
        ("model.export.saved_model:add_chunk_graph", "after", False),
        ("model.export.saved_model:file_digests", "after", False),
        ("model.export.saved_model:write_manifest", "after", False),
        ("os:fsync", "after", False),
        ("pathlib:Path.rename", "before", False),
        ("pathlib:Path.rename", "after", True),
    ],
)
def test_the_rename_is_what_makes_a_version(
    tmp_path: Path, deadly: str, when: str, visible: bool
) -> None:
    """Times too short for a random kill to meet them, one by one."""
    assert not Child(tmp_path, deadly, when).end()
    assert new_versions(tmp_path / "tiny", []) == ([1] if visible else [])
    assert any((tmp_path / "tiny").glob(f"{HIDDEN}*")) != visible
