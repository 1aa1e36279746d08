"""The version that workers pin: one of them decides, and all read the same."""

import gc
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.agreed_version import AgreedVersion, Pin

fork = multiprocessing.get_context("fork")


@given(
    st.lists(
        st.none()
        | st.builds(
            Pin,
            version=st.integers(0),
            checksum=st.text("0123456789abcdef", min_size=64, max_size=64),
            # Paths may hold what is no text; Python has it as surrogates.
            refused=st.dictionaries(st.integers(0), st.text(st.characters()), max_size=3),
        ),
        max_size=5,
    )
)
def test_the_last_word_counts(decisions: list[Pin | None]) -> None:
    pinned = AgreedVersion()
    last = None
    for last in decisions:
        with pinned:
            pinned.write(last)
    with pinned:
        assert pinned.read() == last


def test_it_is_in_the_file(tmp_path: Path) -> None:
    decided = Pin(3, "ab", {4: "it is not whole"})
    with AgreedVersion(tmp_path / "pin") as pinned:
        assert pinned.read() is None
        pinned.write(decided)
    with AgreedVersion(tmp_path / "pin") as pinned:
        assert pinned.read() == decided
    with AgreedVersion() as other:
        assert other.read() is None


def _decide(path: Path, number: int, orders: Connection) -> None:
    pinned = AgreedVersion(path)
    orders.recv()
    with pinned:
        if pinned.read() is None:
            pinned.write(Pin(number, "", {}))
        orders.send(pinned.read())


def test_of_many_at_once_one_decides(tmp_path: Path) -> None:
    pipes = []
    workers = []
    for number in range(8):
        ours, theirs = fork.Pipe()
        arguments = (tmp_path / "pin", number, theirs)
        workers.append(fork.Process(target=_decide, args=arguments, daemon=True))
        workers[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.send("now")
    assert all(pipe.poll(30) for pipe in pipes)
    assert len({pipe.recv().version for pipe in pipes}) == 1
    for worker in workers:
        worker.join(30)


@pytest.mark.parametrize("shared", [True, False])
def test_one_that_is_gone_leaves_no_file_open(tmp_path: Path, shared: bool) -> None:
    # What earlier tests have left open is closed before it is counted.
    gc.collect()
    open_files = len(os.listdir("/proc/self/fd"))
    pinned: AgreedVersion | None = AgreedVersion(tmp_path / "pin" if shared else None)
    assert pinned is not None
    del pinned
    # What is not closed warns, which is an error here.
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == open_files
