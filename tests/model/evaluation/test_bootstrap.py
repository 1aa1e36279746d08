"""The interval of a ratio of errors: how often it holds the truth, and what it takes together."""

import numpy as np

from model.evaluation.bootstrap import interval


def test_it_holds_the_truth_nineteen_times_in_twenty() -> None:
    """Each error is held for 6 times: an interval of single times would be far too narrow.

    Of 200 series, 95 % are 190 with a standard deviation of 3; a bootstrap of 25 stretches is known
    to be a little too narrow.
    """
    random = np.random.default_rng(0)
    times = np.arange(300)
    ours, theirs = (np.repeat(np.abs(random.normal(size=(50, 200))), 6, axis=0) for _ in range(2))
    low, high = interval(ours, theirs, times, 12)
    assert 176 <= ((low < 1) & (high > 1)).sum() <= 198
    low, high = interval(ours, theirs, times, 1)
    assert ((low < 1) & (high > 1)).sum() < 140


def test_what_is_hard_for_both_tells_nothing() -> None:
    """A model that is always a tenth better is surely so, however much errors vary over time."""
    errors = np.random.default_rng(0).exponential(size=(400, 1))
    np.testing.assert_allclose(interval(0.9 * errors, errors, np.arange(400), 4), 0.9)


def test_series_of_the_same_time_are_drawn_together() -> None:
    """Three copies of a series tell no more than one."""
    random = np.random.default_rng(0)
    ours, theirs = (np.abs(random.normal(size=(400, 1))) for _ in range(2))
    alone = interval(ours, theirs, np.arange(400), 4)
    together = interval(
        np.tile(ours, (3, 1)), np.tile(theirs, (3, 1)), np.tile(np.arange(400), 3), 4
    )
    np.testing.assert_allclose(together, alone)


def test_of_few_stretches_nothing_is_told() -> None:
    ones = np.ones((49, 1))
    assert np.isnan(interval(ones, ones, np.arange(49), 10)).all()
    ones = np.ones((50, 1))
    assert np.isfinite(interval(ones, ones, np.arange(50), 10)).all()
