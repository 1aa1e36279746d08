"""The trainer: its loss, the order of its batches, what it keeps, and what it goes on from."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from model.data import dataset
from model.data.batches import Batches
from model.preparation import build_model
from model.tasks.task import TaskConfig, load_task
from model.train_config import Recipe
from model.training.checkpoint import Checkpoint
from model.training.trainer import Diverged, Trainer, masked_error
from tests.model.toy_training import write_task

TINY = Recipe(
    layers=("rnn:3",), output_keep_prob=(0.8,), window_steps=8, batch_size=16, updates=60,
    average_momentum=0.9,
)  # fmt: skip

Splits = dict[str, dataset.Split]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[TaskConfig, Splits]:
    task = load_task(write_task(tmp_path_factory.mktemp("task")))
    return task, dataset.load(task)


def make_trainer(toy: tuple[TaskConfig, Splits], config: Recipe) -> Trainer:
    keras.utils.set_random_seed(config.seed)
    task, splits = toy
    return Trainer(build_model(task, config, splits["train"]), splits, config)


def weights(trainer: Trainer) -> list[bytes]:
    return [weight.numpy().tobytes() for weight in trainer.model.trainable_variables]


def expected_error(trainer: Trainer, split: dataset.Split) -> float:
    """Of windows half a window apart, in spreads, by NumPy in float64."""
    steps, errors = trainer.recipe.window_steps, []
    spreads = [output.transform.std for output in trainer.model.outputs_spec]
    for start, length in dataset.windows(split, steps, steps // 2):
        rows = slice(start, start + length)
        sequences = tf.constant(split.features[np.newaxis, rows])
        outputs, _ = trainer.model.predict_sequences(sequences, tf.constant([length], tf.int32))
        errors.append(np.abs(outputs[0].numpy() - split.targets[rows].astype(np.float64)) / spreads)
    return float(np.nanmean(np.concatenate(errors)))


def test_an_error_counts_in_the_unit_that_is_given(toy: tuple[TaskConfig, Splits]) -> None:
    """By default in spreads."""
    task, splits = toy
    trainer = make_trainer(toy, TINY)
    spreads = np.array([o.transform.std for o in trainer.model.outputs_spec], np.float32)
    other = Trainer(trainer.model, splits, TINY, scale=4 * spreads)
    # float32, in another order.
    assert other.validation_error() == pytest.approx(trainer.validation_error() / 4, rel=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_stops_when_validation_does_and_keeps_the_weights_that_did_best(
    toy: tuple[TaskConfig, Splits], momentum: float
) -> None:
    """Whether the running average of the weights is validated, or the weights themselves."""
    task, splits = toy
    # What comes is turned round: the more is learnt of the training split, the worse.
    validation = splits["validation"]
    turned = 2 * validation.present - validation.targets
    validation = dataclasses.replace(validation, targets=turned)
    config = Recipe(
        layers=("rnn:3",), output_keep_prob=(1.0,), input_noise=0.0, window_steps=8,
        batch_size=16, updates=200, patience=1, learning_rate=0.1, average_momentum=momentum,
    )  # fmt: skip
    trainer = make_trainer((task, {**splits, "validation": validation}), config)
    while not trainer.progress.finished:
        trainer.update()
    errors = trainer.progress.history["val_loss"]
    assert errors == sorted(errors)
    assert len(errors) == 2, "one round without a better error is enough"
    trainer.take_best()
    # float32 against float64.
    assert expected_error(trainer, validation) == pytest.approx(errors[0], rel=1e-5)
    assert errors[0] != pytest.approx(errors[1], rel=1e-3)


def test_the_weights_that_are_learnt_on_are_not_the_average_that_was_validated(
    toy: tuple[TaskConfig, Splits],
) -> None:
    """Validation leaves no trace: the weights after a round are those without one."""
    trainer = make_trainer(toy, TINY)
    while not trainer.at_end_of_round or trainer.progress.update == 0:
        trainer._learn(*_given(trainer))
        trainer.progress.update += 1
    before = weights(trainer)
    trainer._end_round()
    assert weights(trainer) == before
    trainer.take_best()
    assert weights(trainer) != before


def _given(trainer: Trainer) -> tuple[np.ndarray, ...]:
    batch = trainer.batches.batch(trainer.progress.update)
    return batch.sequences, batch.lengths, batch.targets


def test_resumed_is_uninterrupted_at_every_update(
    toy: tuple[TaskConfig, Splits], tmp_path: Path
) -> None:
    """With dropout, noise, an order of windows and an average: bit for bit, from a file."""
    whole = make_trainer(toy, TINY)
    kept = []
    while not whole.progress.finished:
        whole.checkpoint().write(tmp_path / f"{whole.progress.update}.npz")
        whole.update()
        kept.append(weights(whole))
    whole.take_best()
    assert len(kept) == TINY.updates
    for update in (0, 1, TINY.round_updates, TINY.round_updates + 1):
        # Another seed: what is not restored shows.
        resumed = make_trainer(toy, TINY.model_copy(update={"seed": 7}))
        resumed.batches.seed = TINY.seed
        resumed.restore(Checkpoint.read(tmp_path / f"{update}.npz"))
        while not resumed.progress.finished:
            resumed.update()
            assert weights(resumed) == kept[resumed.progress.update - 1]
        resumed.take_best()
        assert weights(resumed) == weights(whole)
        assert resumed.progress.history == whole.progress.history


def test_a_checkpoint_of_other_data_is_refused(toy: tuple[TaskConfig, Splits]) -> None:
    task, splits = toy
    train = splits["train"]
    targets = train.targets.copy()
    targets[5, 0] += 1.0
    other = {**splits, "train": dataclasses.replace(train, targets=targets)}
    checkpoint = make_trainer((task, other), TINY).checkpoint()
    with pytest.raises(ValueError, match="the table or the task has changed since"):
        make_trainer(toy, TINY).restore(checkpoint)


def test_an_error_that_is_no_number_ends_it(toy: tuple[TaskConfig, Splits]) -> None:
    trainer = make_trainer(toy, TINY)
    kernel = trainer.model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    for _ in range(TINY.round_updates - 1):
        trainer.update()
    with pytest.raises(Diverged, match="diverged: lower --learning-rate or --clip-norm"):
        trainer.update()
    assert trainer.progress.best == []


def test_training_windows_are_shuffled_by_the_seed_and_validation_windows_are_not(
    toy: tuple[TaskConfig, Splits],
) -> None:
    def passes(batches: Batches) -> list[list[float]]:
        """First temperature of each window, of two passes."""
        each = len(batches)
        return [
            [float(t) for n in numbers for t in batches.batch(n).sequences[:, 0, 0]]
            for numbers in (range(each), range(each, 2 * each))
        ]

    one, same, two = (
        make_trainer(toy, TINY.model_copy(update={"seed": seed})) for seed in (1, 1, 2)
    )
    first, second = passes(one.batches)
    assert first != second
    assert sorted(first) == sorted(second)
    validation, again = passes(one.validation)
    assert validation == again
    assert passes(same.batches) == [first, second]
    assert passes(two.batches)[0] != first


TARGETS = [[[1.0, np.nan], [3.0, 5.0]]]
OUTPUTS = [[[2.0, 9.0], [1.0, 5.5]]]


def test_masked_error_is_the_mean_over_known_targets_in_spreads() -> None:
    """|2 - 1| / 2 = 0.5, |1 - 3| / 2 = 1 and |5.5 - 5| / 0.5 = 1; the 9 is for nothing known."""
    outputs = tf.Variable(OUTPUTS)
    with tf.GradientTape() as tape:
        error = masked_error(np.array([2.0, 0.5], np.float32))(tf.constant(TARGETS), outputs)
    assert float(error) == pytest.approx(2.5 / 3, rel=1e-6)
    # The sign over the spread, over 3.
    expected = [[[1 / 6, 0.0], [-1 / 6, 2 / 3]]]
    np.testing.assert_allclose(tape.gradient(error, outputs), expected, rtol=1e-6)


def test_masked_error_of_nothing_known_is_zero_with_a_gradient_of_zero() -> None:
    outputs = tf.Variable(OUTPUTS)
    with tf.GradientTape() as tape:
        error = masked_error(np.ones(2, np.float32))(tf.fill([1, 2, 2], np.nan), outputs)
    assert float(error) == 0.0
    np.testing.assert_array_equal(tape.gradient(error, outputs), np.zeros((1, 2, 2)))
