"""The model card and its pictures: learning curve, forecasts against the truth, skill table."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from model.data.dataset import Split
from model.data.time_index import later, shown
from model.evaluation.evaluation_rows import forecast_rows
from model.evaluation.skill import Skill, model_forecasts
from model.evaluation.tables import (
    comparison_table,
    readable,
    skill_table,
    verdicts,
    with_unit,
)
from model.network.sequence_model import SequenceModel
from model.tasks.task import TaskConfig

matplotlib.use("Agg")

from matplotlib import pyplot as plt  # the backend is chosen first

# Values of a category that the card lists.
SHOWN_VALUES = 10
# Ten days of hourly forecasts fit a picture.
SHOWN_STEPS = 240


def learning_curve(path: Path, history: dict[str, list[float]]) -> None:
    """Loss on the training and the validation split by update."""
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    updates = history["update"]
    axes.plot(updates, history["loss"], label="training")
    axes.plot(updates, history["val_loss"], label="validation")
    if updates:
        kept = updates[int(np.argmin(history["val_loss"]))]
        axes.axvline(kept, color="0.7", lw=1, ls="--", label="kept")
    axes.set(xlabel="update", ylabel="loss", title="Learning curve")
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def forecast_plot(
    path: Path, model: SequenceModel, split: Split, task: TaskConfig, steps: int, batch_size: int
) -> None:
    """Forecasts of the shortest, a middle and the longest horizon against what came."""
    rows = forecast_rows(split, steps)
    rows = rows[split.series[rows] == split.series[rows[0]]][:SHOWN_STEPS]
    made = model_forecasts(model, split, rows, steps, batch_size)
    shown = sorted({0, len(task.outputs) // 2, len(task.outputs) - 1})
    figure, panels = plt.subplots(
        len(shown),
        1,
        figsize=(9, 2.4 * len(shown)),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    for axes, index in zip(panels[:, 0], shown, strict=True):
        output = task.outputs[index]
        times = later(split.times[rows], output.horizon, task)
        base = split.columns.bases.get(output.column, 0.0)
        came, forecast = (
            numbers.astype(np.float64) + base
            for numbers in (split.targets[rows, index], made[:, index])
        )
        axes.plot(times, came, color="0.35", lw=1.2, label="what came")
        axes.plot(times, forecast, color="C0", lw=1.4, label="forecast")
        axes.fill_between(times, came, forecast, color="C0", alpha=0.15)
        error = np.abs(forecast - came).mean()
        axes.set(ylabel=with_unit(output.column, output.unit))
        axes.set_title(
            f"{output.name}: forecast {_steps(output.horizon)} ahead, "
            f"mean error {readable(error, 1)} {output.unit}",
            fontsize=10,
            loc="left",
        )
    panels[0, 0].legend(loc="upper right", fontsize=9)
    figure.autofmt_xdate()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _steps(count: int) -> str:
    return f"{count} time step" + ("" if count == 1 else "s")


def _spans(splits: dict[str, Split], task: TaskConfig) -> str:
    return "\n".join(
        f"- {name}: {shown(split.own_times.min(), task)} to {shown(split.own_times.max(), task)} "
        f"({split.own.sum():,} rows)"
        for name, split in splits.items()
    )


def _columns(manifest: dict[str, Any]) -> str:
    features = "\n".join(
        f"| {f['name']} | {f['unit']} | {f['description']} | {_sent_as(f)} "
        f"| {'yes' if f['missing'] else 'no'} |"
        for f in manifest["features"]
    )
    outputs = "\n".join(
        f"| {o['name']} | {o['unit']} | {_steps(o['horizon'])} |" for o in manifest["outputs"]
    )
    return f"""## Inputs, raw, in this order
| feature | unit | meaning | sent as | may be null |
|---|---|---|---|---|
{features}

## Outputs, at every time step
| output | unit | horizon |
|---|---|---|
{outputs}"""


def _sent_as(feature: dict[str, Any]) -> str:
    """What callers send for a feature, in a few words."""
    transform = feature["transform"]
    kinds = {"flag": "true or false", "cyclic": "number, cyclic"}
    said = kinds.get(transform["kind"], "number")
    if transform["kind"] == "relative":
        said += f"; float32 protocols less {transform['base']:.15g}"
    elif transform["kind"] in ("one_hot", "embedding"):
        values = transform["values"]
        more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
        said = f"text: {', '.join(values[:SHOWN_VALUES])}{more}; any other is unknown"
    if feature["ahead"]:
        said += f"; the value {_steps(feature['ahead'])} later"
    return said + ("; the first row's for all of a sequence" if feature["static"] else "")


def _skill(skill: Skill, names: list[str], units: str, steps: int) -> str:
    notes = "".join(f"\n{note}.\n" for note in (*skill.notes, *verdicts(skill, names)))
    return f"""## Skill
On the test split, {skill.test.num_forecasts:,} forecasts, each method from the same
{steps} past time steps:

{skill_table(skill.test, names, units)}
{notes}
The model's error less each baseline's, and where that lies with a probability of 95 % (block
bootstrap over time); the validation split chose the weights and the penalties:

{comparison_table(skill, names)}

No method sees a column that is no feature. The linear autoregression is a ridge regression, by
least squares, on every feature of the past window (or of the end of it that its name says); its
penalties were chosen on the validation split, as were the weights of the network, which was trained
for the absolute error."""


def _short_sequences(config: dict[str, Any]) -> str:
    """What is to be known of a network that began as a linear autoregression."""
    if not config["linear_start"]:
        return ""
    steps = config["burn_in_steps"]
    return (
        f" It began as a linear autoregression: of its first {steps} time steps a sequence is "
        "forecast as if all before had been the mean, so callers send that many first."
    )


def write_card(
    folder: Path,
    manifest: dict[str, Any],
    task: TaskConfig,
    splits: dict[str, Split],
    skill: Skill,
    steps: int,
) -> None:
    """Writes `README.md`, the model card, beside the pictures it shows."""
    training = manifest["training"]
    names = [output["name"] for output in manifest["outputs"]]
    units = ", ".join(dict.fromkeys(o["unit"] for o in manifest["outputs"] if o["unit"]))
    layers = " -> ".join(f"{layer['cell']} {layer['units']}" for layer in manifest["layers"])
    (folder / "README.md").write_text(
        f"""# {manifest["name"]}, version {manifest["version"]}

{task.description} Data: {task.source}

Network: {layers}, dense head of {len(names)} outputs; trained {manifest["created"]} with seed
{training["config"]["seed"]} in {training["seconds"]:.0f} s ({training["updates"]:,}
updates, {training["epochs"]:g} epochs).
Libraries: {", ".join(f"{k} {v}" for k, v in manifest["libraries"].items())}.

{_skill(skill, names, units, steps)}

![forecasts against what came](forecast.png)
![learning curve](learning_curve.png)

## Splits (cut by time, the longest horizon apart)
{_spans(splits, task)}

{_columns(manifest)}

## Limits
It knows only the time and places it was trained on. Errors grow with the horizon, as the table
shows.{_short_sequences(training["config"])}
""",
        encoding="utf-8",
    )


def write_pictures(
    folder: Path,
    model: SequenceModel,
    splits: dict[str, Split],
    task: TaskConfig,
    history: dict[str, list[float]],
    steps: int,
    batch_size: int,
) -> None:
    """Draws the pictures of the model card into `folder`."""
    learning_curve(folder / "learning_curve.png", history)
    forecast_plot(folder / "forecast.png", model, splits["test"], task, steps, batch_size)
