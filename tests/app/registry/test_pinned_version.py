"""What workers agree on: one of them decides, and all read the same."""

import gc
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.registry.pinned_version import Agreement, Served

fork = multiprocessing.get_context("fork")


@given(
    st.lists(
        st.none()
        | st.builds(
            Served,
            version=st.integers(0),
            checksum=st.text("0123456789abcdef", min_size=64, max_size=64),
            # Paths may hold what is no text; Python has it as surrogates.
            refused=st.dictionaries(st.integers(0), st.text(st.characters()), max_size=3),
        ),
        max_size=5,
    )
)
def test_the_last_word_counts(decisions: list[Served | None]) -> None:
    agreement = Agreement()
    last = None
    for last in decisions:
        with agreement:
            agreement.settle(last)
    with agreement:
        assert agreement.served == last


def test_it_is_in_the_file(tmp_path: Path) -> None:
    decided = Served(3, "ab", {4: "it is not whole"})
    with Agreement(tmp_path / "served") as agreement:
        assert agreement.served is None
        agreement.settle(decided)
    with Agreement(tmp_path / "served") as agreement:
        assert agreement.served == decided
    with Agreement() as other:
        assert other.served is None


def _decide(path: Path, number: int, orders: Connection) -> None:
    agreement = Agreement(path)
    orders.recv()
    with agreement:
        if agreement.served is None:
            agreement.settle(Served(number, "", {}))
        orders.send(agreement.served)


def test_of_many_at_once_one_decides(tmp_path: Path) -> None:
    pipes = []
    workers = []
    for number in range(8):
        ours, theirs = fork.Pipe()
        arguments = (tmp_path / "served", number, theirs)
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
    open_files = len(os.listdir("/proc/self/fd"))
    agreement: Agreement | None = Agreement(tmp_path / "served" if shared else None)
    assert agreement is not None
    del agreement
    # What is not closed warns, which is an error here.
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == open_files
