"""`--backtest N`: the same training at several ends of the table, each tested on what came next.

An error over the last weeks of one table may be luck; whether the model beats the baselines at each
of several times is not.
"""

import tempfile
from pathlib import Path

from model.data.draft import task_of
from model.data.time_index import shown
from model.evaluation.skill import Skill, evaluate
from model.evaluation.tables import backtest_table
from model.preparation import Preparation, begun_with, prepare
from model.run import train
from model.train_arguments import Command
from model.training.checkpoint import CheckpointFolder
from model.training.display import Display
from model.training.interruption import SIGNALLED, Interrupted

# The shortest table of a backtest, as a part of the whole.
SHORTEST_PART = 0.4


def parts(count: int, test_fraction: float) -> list[float]:
    """The parts of the table's time that are taken, ascending, the last one all of it.

    Args:
        count: how many.
        test_fraction: of the test split; so far apart, that no two splits overlap, if there is
            room.
    """
    apart = min(test_fraction, (1.0 - SHORTEST_PART) / count)
    return [1.0 - apart * left for left in range(count - 1, -1, -1)]


def backtest(command: Command) -> None:
    """Trains and tests at each end, and prints the errors.

    Raises:
        OSError, ValueError: as of `run.run`.
        Interrupted: a signal came; nothing is left.
    """
    config, served = begun_with(command.config)
    task = task_of(config).task
    found: list[tuple[str, Skill]] = []
    with Display() as display:
        for part in parts(command.backtest, 1.0 - task.train_fraction - task.validation_fraction):
            prepared = prepare(config, served, display, part)
            with tempfile.TemporaryDirectory() as folder:
                skill = _tested(prepared, CheckpointFolder(Path(folder)), display)
            found.append((shown(prepared.splits["test"].own_times.min(), task), skill))
    names = [output.name for output in task.outputs]
    print("\nThe model's error on each test split, and how it is beside the best baseline's:\n")
    print(backtest_table(found, names))


def _tested(prepared: Preparation, folder: CheckpointFolder, display: Display) -> Skill:
    try:
        with folder.held():
            trainer = train(prepared, folder, display)
            folder.remove()
    except Interrupted as interrupted:
        told = "stopped: a backtest leaves nothing to go on with"
        raise Interrupted(interrupted.status - SIGNALLED, told) from interrupted
    trainer.take_best()
    display.phase("evaluating")
    recipe = trainer.recipe
    return evaluate(
        trainer.model,
        prepared.splits,
        prepared.recipe.window_steps,
        prepared.task.season_steps,
        recipe.batch_size,
        display.advance,
    )
