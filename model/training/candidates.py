"""`--layers auto`: the recipes to try, from the cheapest to the largest."""

import numpy as np

from model.data.dataset import Split
from model.evaluation.evaluation_rows import evenly, forecast_rows
from model.evaluation.skill import model_forecasts
from model.train_config import AUTO, Recipe
from model.training.linear_start import LEAST_ERROR, register_units
from model.training.trainer import Trainer

# Of a layer that begins as the linear autoregression: more make it slow to serve.
MOST_LINEAR_UNITS = 1024
MOST_COMPARED = 5_000
STACKS = (("lstm:48",), ("lstm:100", "lstm:100", "lstm:100"))


def candidates(
    recipe: Recipe, lagged: np.ndarray, season_steps: int, longest_past: int
) -> tuple[Recipe, ...]:
    """The recipes to try; the given one alone where its layers are named.

    The first begins as a linear autoregression, on a window, a season or as many time steps as
    there are units for, and becomes no worse than that by learning; the others are stacks that
    begin at random. Which one is best is told by `forecast_error`.

    Args:
        recipe: with all other options.
        lagged: as `lagged_inputs` gives them.
        season_steps: time steps of a season.
        longest_past: time steps of the past that every split has a row with.
    """
    if recipe.layers != AUTO:
        return (recipe,)
    stacks = [recipe.model_copy(update={"layers": layers}) for layers in STACKS]
    room = MOST_LINEAR_UNITS - register_units(lagged, 1)
    fitting = 1 + room // max(2, 2 * int(lagged.sum()))
    most = min(recipe.window_steps, longest_past, fitting)
    # A whole season tells more than some time steps beyond it.
    steps = season_steps if 1 < season_steps <= most < recipe.window_steps else most
    if steps < 2 or not lagged.any():
        return tuple(stacks)
    return (_linear(recipe, register_units(lagged, steps), steps), *stacks)


def _linear(recipe: Recipe, units: int, steps: int) -> Recipe:
    keep_probs = ("input_keep_prob", "output_keep_prob", "state_keep_prob")
    return recipe.model_copy(
        update={
            **dict.fromkeys(keep_probs, (1.0,)),
            "input_noise": 0.0,
            "layers": (f"rnn:{units}:relu",),
            "linear_start": True,
            # Until its register is full it forecasts as if all before had been the mean.
            "burn_in_steps": steps - 1,
            "window_steps": recipe.window_steps + steps - 1,
            # It is nearly there. With three times as much the validation error fell further, and
            # the error of later rows rose.
            "learning_rate": recipe.learning_rate / 300,
        }
    )


def forecast_error(trainer: Trainer, validation: Split, steps: int) -> float:
    """The mean error of a trainer's best weights, by which recipes are compared.

    Args:
        trainer: whose model has them from then on.
        validation: the split.
        steps: time steps of the past that each forecast is made from.

    Returns:
        The geometric mean of the outputs' errors, each in units of its own spread: a tenth less
        counts alike for an output that is easily forecast and for one that hardly is.
    """
    trainer.take_best()
    rows = evenly(forecast_rows(validation, steps), MOST_COMPARED)
    made = model_forecasts(trainer.model, validation, rows, steps, trainer.recipe.batch_size)
    spreads = [output.transform.std for output in trainer.model.outputs_spec]
    errors = np.abs(made.astype(np.float64) - validation.targets[rows]).mean(axis=0) / spreads
    return float(np.exp(np.log(np.maximum(errors, LEAST_ERROR)).mean()))
