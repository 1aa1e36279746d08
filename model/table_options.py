"""What may be said of a table on the command line, where no task file describes it."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from model.network_config import Frozen


class TableOptions(Frozen):
    """A table and what is to be forecast; what is not said is found. Each field is an option."""

    data: Path | None = Field(
        None,
        description="a table to train on without a task file: CSV, Parquet, Arrow, NPZ, or, in "
        "quotes, a pattern that finds several (see docs/tasks.md)",
    )
    target: tuple[str, ...] = Field((), description="columns of --data to forecast")
    horizons: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (1,), description="how many time steps ahead --target is forecast", min_length=1
    )
    time: str | None = Field(
        None, description="column of --data with the times; default: found, if there is one"
    )
    series: str | None = Field(
        None, description="column of --data that tells series apart; default: found, if needed"
    )
    features: tuple[str, ...] = Field(
        (), description="columns of --data to forecast from; default: all that can be used"
    )
    time_format: str | None = Field(
        None, description="how the times of --data are written, as of strptime; default: found"
    )
    timezone: str | None = Field(
        None, description="of times without an offset, such as Europe/Berlin; default: UTC"
    )
    every: str | None = Field(
        None,
        description="step of a grid for rows at any time, such as 5min; default: chosen where rows "
        "are irregular",
    )

    @model_validator(mode="after")
    def _of_a_table(self) -> Self:
        for name, field in TableOptions.model_fields.items():
            if self.data is None and getattr(self, name) != field.default:
                raise ValueError(f"--{name.replace('_', '-')} is of a table: name it as --data")
        if self.data is not None and not self.target:
            raise ValueError("--data needs --target: the columns to forecast")
        return self
