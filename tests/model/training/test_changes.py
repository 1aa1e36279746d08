"""Whether an output is learnt as a change or as a level, where the task does not say."""

from pathlib import Path

import numpy as np

from model.data.dataset import load
from model.training.changes import choose_changes
from model.transforms import Output, Standardize
from tests.model.tables import make_table, make_task, write_table


def outputs(**says: object) -> list[dict[str, object]]:
    return [
        {"name": f"temp_{horizon}", "unit": "degC", "column": "temp", "horizon": horizon, **says}
        for horizon in (1, 12)
    ] + [{"name": "rain", "unit": "mm", "column": "rain", "horizon": 1}]


def test_what_is_nearer_to_what_comes_is_taken(tmp_path: Path) -> None:
    """A wave of 24 hours: an hour on it is near to now, half a day on as far as can be. Of rain the
    present value is no feature."""
    table = make_table({"a": range(400)})
    table["temp"] = 10 * np.sin(np.arange(400) * np.pi / 12)
    path = write_table(table, tmp_path / "table.parquet")
    for says, expected in (({}, [True, False, False]), ({"change": True}, [True, True, False])):
        task = make_task(path, outputs=outputs(**says))
        chosen = choose_changes(task, load(task))
        assert [output.change for output in chosen.outputs] == expected
        assert choose_changes(chosen, load(task)) == chosen
    task = make_task(path, outputs=outputs())
    served = Output(name="temp_1", unit="degC", transform=Standardize(mean=0.0, std=1.0))
    chosen = choose_changes(task, load(task), (served,))
    assert [output.change for output in chosen.outputs] == [False, False, False]
