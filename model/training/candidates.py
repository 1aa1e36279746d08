"""`--layers auto`: the recipes to try, from the cheapest to the largest."""

import numpy as np

from model.data.dataset import Split
from model.evaluation.forecastable import evenly, forecast_rows
from model.evaluation.skill import model_forecasts
from model.train_config import AUTO, Recipe
from model.training.trainer import Trainer

# A shift register holds a window of the network's inputs, each in two units.
MOST_LINEAR_UNITS = 1024
MOST_COMPARED = 5_000
STACKS = (("lstm:48",), ("lstm:100", "lstm:100", "lstm:100"))


def candidates(
    recipe: Recipe, num_inputs: int, season_steps: int, longest_past: int
) -> tuple[Recipe, ...]:
    """The recipes to try; the given one alone where its layers are named.

    The first begins as a linear autoregression, on a window or a season, and becomes no worse than
    that by learning; the others are stacks that begin at random. Which one is best is told by
    `forecast_error`.

    Args:
        recipe: with all other options.
        num_inputs: columns that the network sees at a time step.
        season_steps: time steps of a season.
        longest_past: time steps of the past that every split has a row with.
    """
    if recipe.layers != AUTO:
        return (recipe,)
    found = []
    for steps in sorted({recipe.window_steps, season_steps}, reverse=True):
        units = 2 * steps * num_inputs
        if 1 < steps <= min(recipe.window_steps, longest_past) and units <= MOST_LINEAR_UNITS:
            found.append(_linear(recipe, units, steps))
            break
    stacks = [recipe.model_copy(update={"layers": layers}) for layers in STACKS]
    return (*found, *stacks)


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
            # It is nearly there; a tenth was too much.
            "learning_rate": recipe.learning_rate / 100,
        }
    )


def forecast_error(trainer: Trainer, validation: Split, steps: int) -> float:
    """The mean error of a trainer's best weights, by which recipes are compared.

    Args:
        trainer: whose model has them from then on.
        validation: the split.
        steps: time steps of the past that each forecast is made from.

    Returns:
        Over all outputs, each in units of its own spread.
    """
    trainer.take_best()
    rows = evenly(forecast_rows(validation, steps), MOST_COMPARED)
    made = model_forecasts(trainer.model, validation, rows, steps, trainer.recipe.batch_size)
    spreads = [output.transform.std for output in trainer.model.outputs_spec]
    return float(np.mean(np.abs(made - validation.targets[rows]) / spreads))
