"""The model as a whole: shapes that must agree, and what is beyond a row's length."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.network.sequence_model import SequenceModel
from model.network_config import LayerConfig, RNNConfig
from tests.support.exported_models import (
    FEATURES,
    KINDS,
    KINDS_OUTPUTS,
    OUTPUTS,
    make_model,
    raw_sequence,
    sequence_of_kinds,
)

LENGTHS = [5, 0, 2]


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    return make_model(("gru:4", "lstm:3"))


def padded() -> tf.Tensor:
    random = np.random.default_rng(0)
    return tf.constant(np.stack([raw_sequence(random, 5) for _ in LENGTHS]))


@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(9, 2), (8, 3)])
def test_transforms_that_do_not_fit_the_network_are_refused(
    num_inputs: int, num_outputs: int
) -> None:
    config = RNNConfig(
        layers=(LayerConfig.parse("gru:2"),), num_inputs=num_inputs, num_outputs=num_outputs
    )
    with pytest.raises(ValueError, match=f"has {num_inputs} and {num_outputs}") as refusal:
        SequenceModel(config, FEATURES, OUTPUTS)
    assert "the transforms give 8 inputs and 2 outputs" in str(refusal.value)


def test_outputs_beyond_a_length_are_zero_and_only_there(model: SequenceModel) -> None:
    outputs, _ = model.predict_sequences(padded(), tf.constant(LENGTHS))
    valid = np.arange(5) < np.array(LENGTHS)[:, np.newaxis]
    np.testing.assert_array_equal(np.any(outputs.numpy() != 0.0, axis=2), valid)


def test_keras_calls_the_model_as_the_signatures_do(model: SequenceModel) -> None:
    lengths = tf.constant(LENGTHS)
    expected, _ = model.predict_sequences(padded(), lengths)
    np.testing.assert_array_equal(model({"sequences": padded(), "lengths": lengths}), expected)


def batch() -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    inputs = {"sequences": padded(), "lengths": tf.constant(LENGTHS)}
    return inputs, tf.zeros([len(LENGTHS), 5, 2])


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (lambda gradients: gradients[1:], "7 gradients for 8 variables"),
        (lambda gradients: [None, *gradients[1:]], "has no gradient of its shape"),
        (lambda gradients: [*gradients[1:], gradients[0]], "has no gradient of its shape"),
    ],
)
def test_a_weight_without_its_gradient_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, lose: Any, told: str
) -> None:
    """Keras would leave that weight as it is, or take the next one's gradient, without a word."""
    model = make_model(("gru:4", "lstm:3"))
    model.compile(keras.optimizers.SGD(0.1), loss="mae", jit_compile=False)
    found = model.rnn.gradients
    monkeypatch.setattr(model.rnn, "gradients", lambda *given: lose(found(*given)))
    with pytest.raises(AssertionError, match=told):
        model.train_step(batch())


def test_dropout_is_on_in_training_only() -> None:
    model = make_model(("gru:8",), output_keep_prob=0.5)
    model.compile(keras.optimizers.SGD(0.0), loss="mae", jit_compile=False)
    inputs, targets = batch()

    def loss() -> float:
        model.reset_metrics()
        return float(model.train_step((inputs, targets))["loss"])

    assert loss() != loss()
    inference = model(inputs).numpy()
    np.testing.assert_array_equal(model(inputs, training=False), inference)
    plain = make_model(("gru:8",))
    plain.compile(keras.optimizers.SGD(0.0), loss="mae", jit_compile=False)
    first = float(plain.train_step((inputs, targets))["loss"])
    # Compiled loops round a little otherwise.
    assert first == pytest.approx(np.abs(inference).mean(), rel=1e-5)


def test_the_gradient_of_an_embedding_is_that_of_its_loss() -> None:
    """Against differences of the loss; a value that is unknown or missing has no row."""
    model = make_model(("gru:4", "lstm:3"), 0, KINDS, KINDS_OUTPUTS)
    (table,) = model.embeddings.values()
    assert model.trainable_variables[0] is table
    random = np.random.default_rng(2)
    rows = np.stack([sequence_of_kinds(random, 5) for _ in LENGTHS])
    rows[0, :, 5], rows[1, :, 5], rows[2, :, 5] = [1, 0, np.nan, 3, 1], 2, [3, 4, 5, 5, 5]
    inputs = {"sequences": tf.constant(rows), "lengths": tf.constant(LENGTHS, tf.int32)}

    at_first = model(inputs)

    def loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        # Small numbers, which float32 tells apart.
        return tf.reduce_sum((outputs - targets)[..., 2])

    before, expected = table.numpy(), np.zeros(table.shape)
    for place in np.ndindex(*before.shape):
        told = []
        for step in (-0.05, 0.05):
            changed = before.copy()
            changed[place] += step
            table.assign(changed)
            told.append(float(loss(at_first, model(inputs))))
        expected[place] = (told[1] - told[0]) / 0.1
    table.assign(before)
    model.compile(keras.optimizers.SGD(1.0), loss=loss, jit_compile=False)
    model.train_step((inputs, at_first))
    found = before - table.numpy()
    # Row 2 is padding, rows 5 and 6 beyond the length of 2 or nowhere.
    assert not found[[1, 4, 5]].any()
    assert found[[0, 2, 3]].all()
    # The loss bends a little over a step of 0.1.
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
