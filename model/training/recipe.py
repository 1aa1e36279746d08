"""The options that nobody gave: they follow from how much data there is.

Lengths count in updates, not in passes: a small table needs as many of them as a large one.
"""

import numpy as np

from model.data import dataset
from model.evaluation.evaluation_rows import longest_past, most_have
from model.train_config import ROUNDS, Recipe, TrainConfig

# Seasons in a window: so many are averaged when noise hides them.
SEASONS = 3
SHORTEST_WINDOW, LONGEST_WINDOW = 24, 288
# Part of a split's rows that have a whole window of past.
WITH_WHOLE_PAST = 1 / 3
# Of this many windows on, a batch has 128; below, a pass has ten batches.
FULL_BATCH, FEWEST_BATCHES, SMALLEST_BATCH = 128, 10, 8
# Found on hourly tables of 2,000 to 20,000 rows: what is learnt later is noise. More windows tell
# more, but less and less.
UPDATES, UPDATES_UP_TO, GROWTH = 600, 20_000, 0.4
# The average lags by two rounds.
AVERAGED_ROUNDS = 2


def choose_recipe(
    config: TrainConfig, splits: dict[str, dataset.Split], season_steps: int
) -> Recipe:
    """All options, those that were not given chosen.

    Args:
        config: as given.
        splits: as `dataset.load` gives them.
        season_steps: time steps of a season.

    Raises:
        ValueError: the options leave nothing to learn from.
    """
    window = config.window_steps or choose_window(splits, season_steps)
    if config.burn_in_steps >= window:
        raise ValueError(f"--burn-in-steps: {config.burn_in_steps} leave nothing of {window} steps")
    count = len(dataset.windows(splits["train"], window, 1))
    updates = config.updates or choose_updates(count)
    momentum = config.average_momentum
    if momentum is None:
        momentum = max(0.0, 1.0 - ROUNDS / (AVERAGED_ROUNDS * updates))
    chosen = {
        "window_steps": window,
        "batch_size": config.batch_size or choose_batch(count),
        "updates": updates,
        "average_momentum": momentum,
    }
    return Recipe.model_validate({**config.model_dump(), **chosen})


def past_steps(window_steps: int | None, season_steps: int) -> int:
    """Time steps before validation and test that forecasts there look back on, at most.

    Args:
        window_steps: time steps of a window; None where they are chosen.
        season_steps: time steps of a season.
    """
    return max(window_steps or _wanted_window(season_steps), season_steps)


def _wanted_window(season_steps: int) -> int:
    return int(np.clip(SEASONS * season_steps, SHORTEST_WINDOW, LONGEST_WINDOW))


def choose_window(splits: dict[str, dataset.Split], season_steps: int) -> int:
    """Time steps of a window: some seasons, but no more than leaves a third of each split's rows
    with so long a past."""
    room = min(most_have(split, WITH_WHOLE_PAST) for split in splits.values())
    return max(2, min(_wanted_window(season_steps), room))


def longest_past_of_all(splits: dict[str, dataset.Split]) -> int:
    """Time steps of the past that every split has a row with."""
    return min(longest_past(split) for split in splits.values())


def choose_batch(windows: int) -> int:
    """Windows of a batch, of so many that there are."""
    return int(np.clip(windows // FEWEST_BATCHES, SMALLEST_BATCH, FULL_BATCH))


def choose_updates(windows: int) -> int:
    """Updates of a training, of so many windows that there are."""
    growth = float(max(1.0, windows / UPDATES_UP_TO) ** GROWTH)
    return 10 * round(UPDATES / 10 * growth)
