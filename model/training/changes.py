"""Whether an output is learnt as a change from now or as a level, where the task does not say."""

import numpy as np

from model.data.dataset import Split
from model.tasks.task import TaskConfig
from model.transforms import Change, Output


def choose_changes(
    task: TaskConfig, splits: dict[str, Split], begun_with: tuple[Output, ...] = ()
) -> TaskConfig:
    """The task, with `change` said of every output.

    A network begins near zero: at the present value of a change, at the mean of a level. What is
    nearer to what comes, on the validation split, is what it begins from.

    Args:
        task: of which some outputs may say nothing.
        splits: as `dataset.load` gives them.
        begun_with: outputs of the version to begin from, whose kind those of the same name have.
    """
    kinds = {output.name: isinstance(output.transform, Change) for output in begun_with}
    train, validation = splits["train"], splits["validation"]
    outputs = []
    for index, output in enumerate(task.outputs):
        change = kinds.get(output.name) if output.change is None else output.change
        if change is None:
            change = False
            if output.column in task.always_known:
                mean = np.nanmean(train.targets[:, index], dtype=np.float64)
                truth = validation.targets[:, index]
                now = np.abs(truth - validation.present[:, index])
                change = bool(np.nanmean(now) < np.nanmean(np.abs(truth - mean)))
        outputs.append(output.model_copy(update={"change": change}))
    return task.model_copy(update={"outputs": tuple(outputs)})
