"""The features and outputs of a task that is drafted."""

from typing import Any

from model.data.calendar import MEANINGS, PERIODS, UNITS
from model.data.cells import DataError
from model.data.kinds import Finding
from model.data.names import plain_name
from model.data.seasons import Season
from model.table_options import TableOptions
from model.tasks.task import STATE_IN_ANSWERS, STATE_IN_REQUESTS
from model.tasks.time_config import Rule

# So few rows may be without a number: they are left out, and the feature is never missing. Of a
# target more, since a change can be forecast from what is never missing alone.
FEW_MISSING, FEW_OF_TARGET = 0.001, 0.02
# A column of which more is missing is of no use.
MOST_MISSING = 0.9
# Of a column that is the time, or that tells the series.
OTHER = "tells when or of what a row is"


def check_targets(options: TableOptions, findings: dict[str, Finding]) -> None:
    """Raises DataError for a target that is no number."""
    for target in options.target:
        if target not in findings or not findings[target].of_numbers:
            why = _why_not(findings.get(target))
            raise DataError(f"{options.data}: column {target!r} {why}: a target is of numbers")


def _why_not(finding: Finding | None) -> str:
    if finding is None:
        return OTHER
    return finding.why or f"is a {finding.kind} of text"


def chosen_features(
    options: TableOptions, findings: dict[str, Finding]
) -> tuple[list[Finding], dict[str, str]]:
    """The columns to forecast from, and those that are left out, with the reason.

    Raises:
        DataError: a column that is named cannot be used, or none can.
    """
    if options.features:
        for column in options.features:
            if column not in findings or findings[column].why:
                why = _why_not(findings.get(column))
                raise DataError(f"{options.data}: column {column!r} {why}: it can be no feature")
        unused = {c: "is not among --features" for c in findings if c not in options.features}
        return [findings[c] for c in options.features], unused
    left_out = {
        column: finding.why or f"is missing in {finding.missing:.0%} of the rows"
        for column, finding in findings.items()
        if finding.why or finding.missing > MOST_MISSING
    }
    used = [finding for column, finding in findings.items() if column not in left_out]
    if not used:
        raise DataError(f"{options.data}: no column to forecast from")
    return used, left_out


def words(
    used: list[Finding], findings: dict[str, Finding], options: TableOptions
) -> tuple[str, ...]:
    """What stands for no number in the columns that are used."""
    columns = dict.fromkeys([*(f.column for f in used), *options.target])
    return tuple(dict.fromkeys(word for c in columns for word in findings[c].words))


def names_of(used: list[Finding]) -> dict[str, str]:
    """What callers know each feature by."""
    names: dict[str, str] = {}
    for finding in used:
        names[finding.column] = plain_name(
            finding.name, {*names.values(), STATE_IN_REQUESTS, STATE_IN_ANSWERS}
        )
    return names


def feature(finding: Finding, name: str, options: TableOptions) -> dict[str, Any]:
    """The fields of a feature."""
    fields: dict[str, Any] = {"name": name, "column": finding.column}
    if finding.kind in ("number", "cyclic"):
        fields["unit"] = finding.unit
    if finding.kind != "number":
        fields["kind"] = finding.kind
    if finding.period is not None:
        fields["period"] = finding.period
    if finding.static:
        fields["static"] = True
    few = FEW_OF_TARGET if finding.column in options.target else FEW_MISSING
    return fields | ({"missing": True} if finding.missing > few else {})


def calendar(seasons: list[Season], used: list[Finding], taken: set[str]) -> list[dict[str, Any]]:
    """A feature for each season that shows, if no column tells the place within it."""
    there = {finding.period for finding in used}
    return [
        {
            "name": plain_name(season.calendar, taken),
            "unit": UNITS[season.calendar],
            "description": MEANINGS[season.calendar],
            "kind": "cyclic",
            "period": PERIODS[season.calendar],
            "calendar": season.calendar,
        }
        for season in seasons
        if PERIODS[season.calendar] not in there
    ]


def outputs(
    options: TableOptions,
    findings: dict[str, Finding],
    names: dict[str, str],
    features: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """An output for each target and horizon. Where now is always known, a training chooses whether
    it is the change from now."""
    known = {f["column"] for f in features if "column" in f and not {"missing", "kind"} & set(f)}
    outputs: list[dict[str, Any]] = []
    for target in options.target:
        name = names.get(target) or plain_name(findings[target].name, ())
        for horizon in options.horizons:
            taken = {STATE_IN_ANSWERS, *(output["name"] for output in outputs)}
            outputs.append(
                {
                    "name": plain_name(f"{name}_{horizon}", taken),
                    "unit": findings[target].unit,
                    "column": target,
                    "horizon": horizon,
                    "change": None if target in known and horizon > 0 else False,
                }
            )
    return outputs


def rules(used: list[Finding], targets: tuple[str, ...]) -> dict[str, Rule]:
    """What becomes of each column on a grid."""
    told = {finding.column for finding in used if finding.kind in ("flag", "category")}
    columns = dict.fromkeys([*(finding.column for finding in used), *targets])
    return {column: "last" if column in told else "mean" for column in columns}
