"""A manifest's transforms as arrays: what is of a kind, and in which order inputs are made."""

import numpy as np

from app.columns import Change, Cyclic, Feature, Output, Standardize
from app.kernels.column_transforms import InputColumns, OutputColumns

HOUR = Feature(name="hour", unit="h", transform=Cyclic(kind="cyclic", period=24.0), missing=True)
TEMP = Feature(name="temp", unit="C", transform=Standardize(kind="standardize", mean=3.0, std=2.0))
WIND = Feature(
    name="wind",
    unit="m/s",
    transform=Standardize(kind="standardize", mean=5.0, std=4.0),
    missing=True,
)


def test_features_are_put_together_by_their_transforms() -> None:
    columns = InputColumns.of((HOUR, TEMP, WIND))
    assert (columns.plain, columns.cyclic, columns.missing) == ([1, 2], [0], [0, 2])
    np.testing.assert_array_equal(columns.mean, [3.0, 5.0])
    np.testing.assert_array_equal(columns.std, [2.0, 4.0])
    np.testing.assert_allclose(columns.scale, [np.pi / 12], rtol=1e-6)
    # The model has sin, cos and flag of the hour, the temperature, then the wind and its flag.
    assert columns.order == [3, 4, 0, 1, 2, 5]


def test_a_change_knows_its_feature() -> None:
    outputs = (
        Output(name="a", unit="C", transform=Standardize(kind="standardize", mean=1.0, std=2.0)),
        Output(
            name="b", unit="C", transform=Change(kind="change", feature="wind", mean=0.0, std=3.0)
        ),
    )
    columns = OutputColumns.of(outputs, (HOUR, TEMP, WIND))
    np.testing.assert_array_equal(columns.mean, [1.0, 0.0])
    np.testing.assert_array_equal(columns.std, [2.0, 3.0])
    np.testing.assert_array_equal(columns.is_change, [False, True])
    np.testing.assert_array_equal(columns.of_feature, [0, 2])
