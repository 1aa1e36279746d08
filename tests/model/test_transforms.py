"""Raw columns to network inputs and network outputs to real units, against plain NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from model.transforms import (
    Change,
    Cyclic,
    Feature,
    Output,
    Standardize,
    decode_outputs,
    encode_features,
)
from tests.support.exported_models import FEATURES, OUTPUTS, raw_sequence

# float32 keeps 24 bits, a relative 6e-8. Numbers here are at most 1000 and go through three
# operations: 1000 * 3 * 6e-8 = 2e-4 in real units, and less after the division by a spread.
# An angle is rounded before its sine is taken: up to 4 turns of 6e-8 * 25 each.
INPUTS = {"rtol": 1e-5, "atol": 1e-5}
UNITS = {"rtol": 1e-6, "atol": 2e-4}


def column(values: list[float]) -> tf.Tensor:
    """A raw batch `[1, T, 1]`."""
    return tf.constant([[[value] for value in values]], tf.float32)


def test_standardize_is_the_distance_from_the_mean_in_spreads() -> None:
    feature = Feature(name="t", unit="K", transform=Standardize(mean=50.0, std=20.0))
    made = encode_features(column([50.0, 70.0, 40.0]), (feature,))
    np.testing.assert_array_equal(made, [[[0.0], [1.0], [-0.5]]])


def test_cyclic_is_sine_and_cosine_and_the_period_joins_up() -> None:
    feature = Feature(name="hour", unit="h", transform=Cyclic(period=24.0))
    made = encode_features(column([0.0, 6.0, 12.0, 18.0, 24.0]), (feature,))
    expected = [[[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]]]
    np.testing.assert_allclose(made, expected, **INPUTS)


def test_missing_is_zeros_and_a_flag_of_one() -> None:
    plain = Feature(name="t", unit="K", missing=True, transform=Standardize(mean=50.0, std=20.0))
    angle = Feature(name="d", unit="deg", missing=True, transform=Cyclic(period=360.0))
    made = encode_features(column([np.nan, 70.0]), (plain,))
    np.testing.assert_array_equal(made, [[[0.0, 1.0], [1.0, 0.0]]])
    made = encode_features(column([np.nan, 90.0]), (angle,))
    np.testing.assert_allclose(made, [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]], **INPUTS)


def test_a_number_that_may_not_be_missing_stays_nan() -> None:
    """It must not pass for the mean: who validates requests relies on it."""
    feature = Feature(name="t", unit="K", transform=Standardize(mean=50.0, std=20.0))
    assert np.isnan(encode_features(column([np.nan]), (feature,))).all()


def encoded(row: np.ndarray) -> list[float]:
    """The network's inputs for one row of `exported_models.FEATURES`, in order, in float64."""
    temp, pressure, wind_dir, hour = row.astype(np.float64)
    wind = np.radians(wind_dir)
    return [
        (temp - 55.0) / 18.0,
        0.0 if np.isnan(pressure) else (pressure - 1018.0) / 7.4,
        float(np.isnan(pressure)),
        0.0 if np.isnan(wind) else np.sin(wind),
        0.0 if np.isnan(wind) else np.cos(wind),
        float(np.isnan(wind)),
        np.sin(hour * np.pi / 12),
        np.cos(hour * np.pi / 12),
    ]


@given(seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 3), steps=st.integers(1, 8))
def test_encoded_features_stand_in_order_each_with_its_flag_last(
    seed: int, batch: int, steps: int
) -> None:
    random = np.random.default_rng(seed)
    raw = np.stack([raw_sequence(random, steps) for _ in range(batch)])
    made = encode_features(tf.constant(raw), FEATURES).numpy()
    assert made.dtype == np.float32
    assert made.shape[-1] == sum(feature.num_inputs for feature in FEATURES)
    np.testing.assert_allclose(made, [[encoded(row) for row in rows] for rows in raw], **INPUTS)


def test_features_in_another_order_give_columns_in_that_order() -> None:
    raw = raw_sequence(np.random.default_rng(0), 5)[np.newaxis]
    straight = encode_features(tf.constant(raw), FEATURES).numpy()
    turned = encode_features(tf.constant(raw[..., ::-1]), FEATURES[::-1]).numpy()
    # temp 0, pressure 1-2, wind_dir 3-5, hour 6-7
    np.testing.assert_array_equal(turned, straight[..., [6, 7, 3, 4, 5, 1, 2, 0]])


@given(
    standardized=arrays(np.float32, (2, 3, 2), elements=st.floats(-4, 4, width=32)),
    seed=st.integers(0, 2**32 - 1),
)
def test_decoded_outputs_are_in_units_and_changes_from_the_present(
    standardized: np.ndarray, seed: int
) -> None:
    """The NaN of another feature must not reach an output."""
    random = np.random.default_rng(seed)
    raw = np.stack([raw_sequence(random, 3) for _ in range(2)])
    raw[0, 0, 1] = np.nan
    made = decode_outputs(tf.constant(standardized), tf.constant(raw), OUTPUTS, FEATURES)
    values = standardized.astype(np.float64)
    np.testing.assert_allclose(made[..., 0], raw[..., 0] + 0.1 + 2.0 * values[..., 0], **UNITS)
    np.testing.assert_allclose(made[..., 1], 60.0 + 19.0 * values[..., 1], **UNITS)


@given(
    values=arrays(np.float32, (1, 4, 1), elements=st.floats(-1000, 1000, width=32)),
    mean=st.floats(-500, 500),
    std=st.floats(0.5, 100),
)
def test_decode_inverts_standardize(values: np.ndarray, mean: float, std: float) -> None:
    transform = Standardize(mean=mean, std=std)
    features = (Feature(name="x", unit="m", transform=transform),)
    outputs = (Output(name="x", unit="m", transform=transform),)
    raw = tf.constant(values)
    back = decode_outputs(encode_features(raw, features), raw, outputs, features)
    np.testing.assert_allclose(back, values, rtol=1e-6, atol=5e-4)  # 1500 * 5 * 6e-8


def test_a_change_of_zero_is_the_present_value_of_the_feature_it_names() -> None:
    features = tuple(
        Feature(name=name, unit="K", transform=Standardize(mean=0.0, std=1.0)) for name in "abc"
    )
    outputs = tuple(
        Output(name=f"{name}_1", unit="K", transform=Change(feature=name, mean=0.0, std=1.0))
        for name in "ca"
    )
    raw = tf.constant([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
    made = decode_outputs(tf.zeros([1, 2, 2]), raw, outputs, features)
    np.testing.assert_array_equal(made, [[[3.0, 1.0], [6.0, 4.0]]])


@pytest.mark.parametrize("spread", [0.0, -1.0])
def test_a_spread_that_is_not_positive_is_refused(spread: float) -> None:
    with pytest.raises(ValidationError, match="std"):
        Standardize(mean=0.0, std=spread)
    with pytest.raises(ValidationError, match="std"):
        Change(feature="a", mean=0.0, std=spread)
    with pytest.raises(ValidationError, match="period"):
        Cyclic(period=spread)
