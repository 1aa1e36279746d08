"""Tasks: the one that comes with the project, and those that are refused."""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from model.data.dataset import fit_features, fit_outputs, load
from model.tasks.task import FeatureConfig, OutputConfig, TaskConfig, load_task
from model.transforms import Change
from tests.model.tables import make_table, make_task, task_fields, write_table

ROOT = Path(__file__).parents[3]
WEATHER = ROOT / "model" / "tasks" / "weather.toml"
DOCUMENT = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
TEMP, WIND, HOUR = task_fields(Path("t.csv"))["features"]
TEMP_1, RAIN_5 = task_fields(Path("t.csv"))["outputs"]


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as error:
        TaskConfig.model_validate(task_fields(Path("t.csv"), **changes))
    return str(error.value)


def test_weather_forecasts_temperature_at_five_horizons_from_nine_features() -> None:
    task = load_task(WEATHER)
    assert " ".join(feature.name for feature in task.features) == (
        "temp dewp humid wind_dir wind_speed precip pressure visib hour"
    )
    assert [output.horizon for output in task.outputs] == [1, 3, 6, 12, 24]
    assert {output.column for output in task.outputs} == {"temp"}
    assert all(output.change for output in task.outputs)
    assert task.max_horizon == 24
    assert (task.time_step_s, task.season_steps, task.series) == (3600, 24, "origin")
    assert {f.name for f in task.features if f.missing} == {"wind_dir", "pressure"}
    assert {f.name: f.period for f in task.features if f.kind == "cyclic"} == {
        "wind_dir": 360,
        "hour": 24,
    }


def test_the_toy_task_of_these_tests_is_a_task() -> None:
    """So that each refusal below is for the one thing changed."""
    assert TaskConfig.model_validate(task_fields(Path("t.csv"))).max_horizon == 5


def test_two_features_of_one_name_are_refused() -> None:
    assert "names must differ: ['temp', 'temp']" in refusal(features=[TEMP, TEMP])


def test_two_outputs_of_one_name_are_refused() -> None:
    same = {**RAIN_5, "name": "temp_1"}
    assert "names must differ: ['temp_1', 'temp_1']" in refusal(outputs=[TEMP_1, same])


def test_the_times_are_no_numbers() -> None:
    """A feature of them ended with a stack trace."""
    why = "column 'time' has the times: "
    assert f"feature 'time': {why}" in refusal(features=[TEMP, {**WIND, "name": "time"}])
    assert f"feature 'hour': {why}" in refusal(
        features=[TEMP, {**WIND, "name": "hour", "column": "time"}]
    )
    assert f"output 'rain_5': {why}" in refusal(outputs=[{**RAIN_5, "column": "time"}])


def test_names_that_arrow_has_for_states_are_refused() -> None:
    """An output of such a name would not be in answers, a feature would not be read."""
    text = refusal(features=[TEMP, {**WIND, "name": "initial_state"}])
    assert "no feature may be called 'initial_state': so is the column of states" in text
    text = refusal(outputs=[{**RAIN_5, "name": "state"}])
    assert "no output may be called 'state': so is the column of states" in text
    other = {**WIND, "name": "state"}, {**RAIN_5, "name": "initial_state"}
    fields = task_fields(Path("t.csv"), features=[TEMP, other[0]], outputs=[TEMP_1, other[1]])
    TaskConfig.model_validate(fields)


def test_a_feature_may_have_another_name_than_its_column(tmp_path: Path) -> None:
    """A column may be called anything; callers send names."""
    table = make_table({"a": range(60)})
    expected = load(make_task(write_table(table, tmp_path / "names.csv")))["train"]
    spaced = table.rename(columns={"temp": "Temp (°C)"})
    task = make_task(
        write_table(spaced, tmp_path / "columns.csv"),
        features=[{**TEMP, "column": "Temp (°C)"}, WIND, HOUR],
        outputs=[{**TEMP_1, "column": "Temp (°C)"}, RAIN_5],
    )
    assert task.features[1].column == "wind"
    found = load(task)["train"]
    np.testing.assert_array_equal(found.features, expected.features)
    assert found.known.tolist() == expected.known.tolist() == [True, False]
    assert fit_features(task, found)[0].name == "temp"
    transform = fit_outputs(task, found)[0].transform
    assert isinstance(transform, Change)
    assert transform.feature == "temp", "in the graph and in the manifest features have names"


def test_a_cyclic_feature_without_a_period_is_refused() -> None:
    cyclic = {"name": "angle", "unit": "deg", "kind": "cyclic"}
    text = refusal(features=[TEMP, cyclic])
    assert "feature 'angle': kind 'cyclic' and a period go together" in text


def test_a_period_of_a_plain_feature_is_refused() -> None:
    text = refusal(features=[TEMP, {**WIND, "period": 360}])
    assert "feature 'wind': kind 'cyclic' and a period go together" in text


@pytest.mark.parametrize("column", ["wind", "hour", "rain"])
def test_a_change_of_what_is_no_number_known_at_all_times_is_refused(column: str) -> None:
    """Missing at times, cyclic, and no feature at all: nothing to add the change to."""
    text = refusal(outputs=[{**TEMP_1, "column": column}])
    assert f"output 'temp_1' is a change of '{column}'" in text


@pytest.mark.parametrize(("train", "validation"), [(0.7, 0.3), (0.9, 0.2)])
def test_fractions_that_leave_no_test_split_are_refused(train: float, validation: float) -> None:
    text = refusal(train_fraction=train, validation_fraction=validation)
    assert "train_fraction + validation_fraction must leave a test split" in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"features": []}, "features"),
        ({"outputs": []}, "outputs"),
        ({"time_step_s": 0}, "time_step_s"),
        ({"time_step_s": math.inf}, "time_step_s"),
        ({"time_unit": "h"}, "time_unit"),
        ({"season_steps": 0}, "season_steps"),
        ({"name": "a/b"}, "name"),
        ({"colour": "red"}, "colour"),
        ({"outputs": [{**TEMP_1, "horizon": -1}]}, "outputs.0.horizon"),
        ({"features": [TEMP, {**HOUR, "period": 0}]}, "features.1.period"),
        ({"features": [TEMP, {**HOUR, "period": math.inf}]}, "features.1.period"),
    ],
)
def test_a_field_out_of_its_limits_is_named(changes: dict[str, Any], named: str) -> None:
    assert named in refusal(**changes)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("time_step_s = 3600", "time_step_s = -1", "time_step_s: Input should be greater than or"),
        ("[[features]]", "[[feature]]", "features: Field required"),
        ('name = "weather"', 'name = "weather', "Illegal character"),
    ],
)
def test_load_task_refuses_in_one_line_that_names_the_file(
    tmp_path: Path, old: str, new: str, why: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(WEATHER.read_text().replace(old, new))
    with pytest.raises(ValueError, match=why) as error:
        load_task(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_load_task_of_no_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        load_task(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("time_step_s", "season_steps"),
    [
        (3600, 24), (60, 1440), (0.1, 864_000), (86_400, 1),
        (25_200, 3),  # 7 hours: 21 of them are nearer to a day than 28
        (604_800, 1),  # a week
    ],
)  # fmt: skip
def test_a_day_has_the_time_steps_that_come_nearest_to_one(
    time_step_s: float, season_steps: int
) -> None:
    fields = task_fields(Path("t.csv"), time_step_s=time_step_s)
    del fields["season_steps"]
    assert TaskConfig.model_validate(fields).season_steps == season_steps
    assert TaskConfig.model_validate({**fields, "season_steps": 7}).season_steps == 7


def write_task(folder: Path, data: str) -> Path:
    path = folder / "task.toml"
    path.write_text(WEATHER.read_text().replace("data/weather.csv.xz", data))
    return path


def test_a_table_is_looked_for_in_the_working_directory_then_beside_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        (folder / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    task = write_task(there, "data/table.csv")
    assert load_task(task).data == Path("data/table.csv"), "what is nowhere keeps its name"
    (there / "data" / "table.csv").touch()
    assert load_task(task).data == there / "data" / "table.csv"
    (here / "data" / "table.csv").touch()
    assert load_task(task).data == Path("data/table.csv")


def test_the_document_shows_a_task_with_every_key() -> None:
    """Each block besides the first is a part of another task."""
    example, *parts = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL))
    tasks = [TaskConfig.model_validate(example)]
    shown = set(example)
    for part in parts:
        shown |= set(part)
        seconds = {} if {"every", "time_step"} & set(part) else {"time_step_s": 3600}
        fields = {k: v for k, v in example.items() if k != "time_step_s"} | seconds | part
        for name, value in part.items():  # one at a time: some do not go together
            alone = {k: v for k, v in fields.items() if k not in part}
            value = [*example["features"], *value] if name == "features" else value
            alone |= {name: value} | ({"every": part["every"]} if "every" in part else {})
            tasks.append(TaskConfig.model_validate(alone))
    assert shown == set(TaskConfig.model_fields)
    for kind, group in ((FeatureConfig, "features"), (OutputConfig, "outputs")):
        keys = set().union(*(entry.model_fields_set for t in tasks for entry in getattr(t, group)))
        assert keys == set(kind.model_fields)


def test_the_document_names_what_is_required() -> None:
    for kind in (TaskConfig, FeatureConfig, OutputConfig):
        required = {name for name, field in kind.model_fields.items() if field.is_required()}
        (paragraph,) = re.findall(r"^`name`, .*?\n\n", DOCUMENT, re.DOTALL | re.MULTILINE)
        assert required <= {*re.findall(r"`(\w+)`", paragraph), "features", "outputs"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"time_step": 1}, "give either time_step_s, in seconds, or time_step: day, week, "),
        ({"time_step_s": None}, "give either time_step_s, in seconds, or time_step"),
        ({"time_step_s": None, "time_step": "fortnight"}, "time_step"),
        ({"time": None}, "time_step_s is of the column of times: name it as time"),
        ({"time": None, "time_of_day": "clock"}, "time_of_day is of the column of times"),
        ({"every": "5min"}, "every is the time step: leave time_step_s and time_step out"),
        ({"every": "often", "time_step_s": 300}, "'often' is no step of a grid, such as 5min"),
        ({"every": "-1h", "time_step_s": 300}, "'-1h' is no step of a grid"),
        ({"every_rules": {"rain": "sum"}}, "every_rules are of a grid: give its step as every"),
        ({"timezone": "Berlin"}, "no time zone is called 'Berlin'; one is Europe/Berlin"),
        ({"timezone": "../x"}, "no time zone is called '../x'"),
        (
            {"time_step_s": None, "time_step": 1, "time_unit": "s"},
            "a time_step that is a number is of numbers that count rows",
        ),
        (
            {
                "time": None,
                "time_step_s": None,
                "features": [TEMP, WIND, {**HOUR, "calendar": "hour_of_day"}],
            },
            "feature 'hour': its calendar is of times, and the task has none",
        ),
    ],
)
def test_clocks_that_do_not_go_together_are_refused(changes: dict[str, Any], why: str) -> None:
    assert why in refusal(**changes)


@pytest.mark.parametrize(
    ("clock", "season_steps"),
    [
        ({"time_step": "month"}, 12), ({"time_step": "quarter"}, 4), ({"time_step": "week"}, 52),
        ({"time_step": "business day"}, 5), ({"time_step": "year"}, 1), ({"time_step": 10}, 1),
        ({"every": "5min"}, 288), ({"time": None}, 1),
    ],
)  # fmt: skip
def test_a_season_follows_from_the_clock(clock: dict[str, Any], season_steps: int) -> None:
    fields = {k: v for k, v in task_fields(Path("t.csv")).items() if k != "season_steps"}
    task = TaskConfig.model_validate(
        {**fields, "time_step_s": None, **clock}
        | ({"time_step_s": 300} if "every" in clock else {})
    )
    assert task.season_steps == season_steps


def test_a_season_may_have_its_name_before(tmp_path: Path) -> None:
    """Task files of others say `day_steps`."""
    fields = task_fields(Path("t.csv"))
    fields["day_steps"] = fields.pop("season_steps") + 3
    assert TaskConfig.model_validate(fields).season_steps == fields["day_steps"]


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        ({"kind": "number"}, "feature 'x': its unit is missing"),
        ({"kind": "flag", "maximum": 3}, "kind 'flag' has no minimum and no maximum"),
        ({"kind": "category", "period": 3}, "kind 'cyclic' and a period go together"),
        ({"unit": "", "static": True, "ahead": 2}, "static is the same ahead: leave out ahead"),
        ({"kind": "category", "column": "rain"}, "column 'rain' is a category, and outputs are"),
        ({"unit": "mm", "column": "rain", "ahead": 5}, "'x' tells what output 'rain_5' is to"),
    ],
)
def test_a_feature_whose_options_do_not_go_together_is_refused(
    feature: dict[str, Any], told: str
) -> None:
    temp = {"name": "temp", "unit": "degC"}
    with pytest.raises(ValidationError, match=re.escape(told)):
        make_task(Path("t.csv"), features=[temp, {"name": "x", **feature}])


def test_static_needs_a_series_and_a_change_a_number_of_now() -> None:
    temp = {"name": "temp", "unit": "degC"}
    with pytest.raises(ValidationError, match="the same for all of a series, but the task has no"):
        make_task(Path("t.csv"), series=None, features=[{**temp, "static": True}])
    ahead = {**temp, "ahead": 1}
    change = [{"name": "y", "unit": "", "column": "temp", "horizon": 5, "change": True}]
    with pytest.raises(ValidationError, match="is a change of 'temp', which is not a number"):
        make_task(Path("t.csv"), features=[ahead], outputs=change)
    assert make_task(Path("t.csv"), features=[temp, {**ahead, "name": "soon"}], outputs=change)
