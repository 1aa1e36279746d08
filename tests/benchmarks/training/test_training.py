"""The page of the training benchmark: ratios and tables."""

from benchmarks.training import __main__ as training
from benchmarks.training.case import WAYS


def test_a_ratio_is_the_median_over_rounds_of_pairs() -> None:
    """A phase in which the machine is twice as slow leaves it as it is."""
    found = {"Unroll": [1.0, 2.0, 1.0], "Keras": [3.0, 6.0, 2.0]}
    lines = training.training_table(found, "training").splitlines()
    assert lines[2:] == ["| Unroll | 1000 |  |", "| Keras | 3000 | 3.00 |"]


def test_servers_are_compared_with_the_first() -> None:
    cells = [
        {"server": name, "rounds": rounds, "per_second": rounds[1], "p50_ms": 5.0, "p99_ms": 9.0}
        for name, rounds in (("two", (30.0, 40.0, 50.0)), ("one", (20.0, 20.0, 20.0)))
    ]
    lines = training.serving_table(cells).splitlines()
    assert lines[2:] == ["| two | 40 | 5 | 9 |  |", "| one | 20 | 5 | 9 | 2.00 |"]


def test_the_page_has_every_figure() -> None:
    three = {way: [1.0] for way in WAYS}
    cell = {"server": "s", "rounds": [7.0], "per_second": 7.0, "p50_ms": 1.0, "p99_ms": 2.0}
    about = {"cores": 3, "cpu": "a processor"}
    text = training.page({"Unroll": [1.0], "Keras": [2.0]}, three, three, [cell], about, "abcdef")
    assert "from commit `abcdef`, on\n3 cores of a processor" in text
    assert "| Keras | 2000 | 2.00 |" in text
    assert text.count("| layer after layer | 1000 | 1.00 |") == 2
    assert f"]({training.PICTURE})" in text
    assert "| s | 7 | 1 | 2 |  |" in text
