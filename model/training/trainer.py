"""`Trainer`: a model, its optimizer and its data, one batch at a time.

All that the next batch depends on is in `checkpoint()`: a trainer that restores it computes the
same numbers, bit for bit on the same devices.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from model.data import dataset
from model.data.batches import Batch, Batches
from model.network.sequence_model import SequenceModel
from model.train_config import Recipe
from model.training.checkpoint import Checkpoint, Progress
from model.training.fingerprint import fingerprint
from model.training.optimizer import make_optimizer


def masked_error(scale: np.ndarray) -> Any:
    """Mean absolute error over known targets, each output in units of its own.

    The absolute error is what the skill table reports, and a storm's large error does not outweigh
    a week of small ones.

    Args:
        scale: float32 `[O]`, the unit of each output.
    """

    def loss(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        total, count = _sums(targets, outputs, scale)
        return total / tf.maximum(count, 1.0)

    return loss


def _sums(targets: tf.Tensor, outputs: tf.Tensor, scale: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """The sum of the errors of the known targets, and how many are known."""
    known = tf.math.is_finite(targets)
    error = tf.abs(tf.where(known, targets, 0.0) - outputs) / scale
    total = tf.reduce_sum(tf.where(known, error, 0.0))
    return total, tf.reduce_sum(tf.cast(known, tf.float32))


class Diverged(ValueError):
    """The loss is no number any more."""


class Trainer:
    """Learns from batch after batch; after each round of them it validates and keeps the best.

    Args:
        model: with fresh weights, or those to begin from.
        splits: as `dataset.load` gives them.
        recipe: how to train.
        asked: the options that checkpoints tell, of which `recipe` is one to try; by default those
            of `recipe`.
        scale: float32 `[O]`, in what the error of each output counts; by default its spread.

    Attributes:
        progress: how far it has come.
        begun: the weights to begin from, in the order of `trainable_variables`.
        scale: see above.
    """

    def __init__(
        self,
        model: SequenceModel,
        splits: dict[str, dataset.Split],
        recipe: Recipe,
        asked: Recipe | None = None,
        scale: np.ndarray | None = None,
    ) -> None:
        self.model, self.recipe, self._asked = model, recipe, asked or recipe
        self.progress = Progress()
        steps, size = recipe.window_steps, recipe.batch_size
        burn_in = recipe.burn_in_steps
        places = dataset.windows(splits["train"], steps, 1)
        self.batches = Batches(splits["train"], places, steps, size, recipe.seed, burn_in)
        # Windows half a window apart: each hour is forecast with little and with much behind it.
        places = dataset.windows(splits["validation"], steps, steps // 2)
        self.validation = Batches(splits["validation"], places, steps, size, None, burn_in)
        for batches in (self.batches, self.validation):
            if int(batches.places[:, 1].max()) <= burn_in:
                raise ValueError(f"no window is longer than --burn-in-steps {burn_in}")
        self._fingerprint = fingerprint(model, splits)
        spreads = np.array([o.transform.std for o in model.outputs_spec], np.float32)
        self.scale = spreads if scale is None else scale
        model.compile(
            optimizer=make_optimizer(recipe),
            loss=masked_error(self.scale),
            # Each layer's loops are compiled by themselves: XLA cannot compile across devices.
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)
        self._learn, self._judge = self._functions()
        self.begun = [weight.numpy() for weight in model.trainable_variables]

    def _functions(self) -> tuple[Any, Any]:
        steps, model = self.recipe.window_steps, self.model
        given = (
            tf.TensorSpec([None, steps, len(model.features)], tf.float32),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, steps, len(model.outputs_spec)], tf.float32),
        )

        def learn(sequences: tf.Tensor, lengths: tf.Tensor, targets: tf.Tensor) -> None:
            model.train_step(({"sequences": sequences, "lengths": lengths}, targets))

        def judge(sequences: tf.Tensor, lengths: tf.Tensor, targets: tf.Tensor) -> Any:
            outputs = model({"sequences": sequences, "lengths": lengths})
            return _sums(targets, outputs, self.scale)

        return tuple(
            tf.function(each, input_signature=given, autograph=False) for each in (learn, judge)
        )

    @property
    def at_end_of_round(self) -> bool:
        """Whether it is time to validate."""
        update = self.progress.update
        return update % self.recipe.round_updates == 0 or update == self.recipe.updates

    def update(self) -> None:
        """Learns from the next batch, and at the end of a round validates.

        Weights that begin trained are validated before.

        Raises:
            Diverged: an error is no number.
        """
        started = time.monotonic()
        begins_trained = self.recipe.linear_start or self.recipe.from_version
        if begins_trained and not self.progress.history["update"]:
            self._begin()
        self._learn(*_tensors(self.batches.batch(self.progress.update)))
        self.progress.update += 1
        if self.at_end_of_round:
            self._end_round()
        self.progress.seconds += time.monotonic() - started

    def _begin(self) -> None:
        """The weights to begin from are the best so far."""
        error = self.validation_error()
        for name, value in (("update", 0), ("loss", error), ("val_loss", error)):
            self.progress.history[name].append(value)
        self.progress.best = [weight.numpy() for weight in self.model.trainable_variables]

    def loss(self) -> float:
        """Of the batches of this round so far."""
        return float(self.model.metrics[0].result())

    def _end_round(self) -> None:
        progress, history = self.progress, self.progress.history
        own = self._swap_in_averages()
        error, loss = self.validation_error(), self.loss()
        if not np.isfinite([error, loss]).all():
            raise Diverged("training diverged: lower --learning-rate or --clip-norm")
        if error < progress.best_error:
            progress.best = [weight.numpy() for weight in self.model.trainable_variables]
            progress.rounds_without_better = 0
        else:
            progress.rounds_without_better += 1
        for name, value in (("update", progress.update), ("loss", loss), ("val_loss", error)):
            history[name].append(value)
        self.take(own)
        self.model.reset_metrics()
        progress.finished = (
            progress.update >= self.recipe.updates
            or progress.rounds_without_better >= self.recipe.patience
        )

    def _swap_in_averages(self) -> list[tf.Tensor]:
        """Puts the average of the weights in their place; gives the weights themselves."""
        own = [tf.identity(weight.value) for weight in self.model.trainable_variables]
        # Before the first batch there is no average.
        if self.recipe.average_momentum > 0 and self.progress.update > 0:
            self.take(self.model.optimizer._model_variables_moving_average)
        return own

    def validation_error(self) -> float:
        """The mean error over all known targets, each in its output's unit."""
        sums = [self._judge(*_tensors(batch)) for batch in self.validation]
        total, count = np.array(sums, np.float64).sum(axis=0)
        return float(total / max(count, 1.0))

    def take_best(self) -> None:
        """Gives the model the best weights so far: before the first round, the average of them."""
        if not self.progress.best:
            self._swap_in_averages()
            return
        self.take(self.progress.best)

    def take(self, weights: Sequence[Any]) -> None:
        """Gives the model other weights, in the order of `trainable_variables`."""
        for weight, value in zip(self.model.trainable_variables, weights, strict=True):
            weight.assign(value)

    def checkpoint(self) -> Checkpoint:
        """All that the next batch depends on."""
        variables = [variable.numpy() for variable in self._variables()]
        config = self._asked.model_dump(mode="json", by_alias=True)
        return Checkpoint(config, self._fingerprint, self.progress, variables)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from there.

        Raises:
            ValueError: the data or the task are not those of the checkpoint.
        """
        if checkpoint.fingerprint != self._fingerprint:
            raise ValueError(
                "the table or the task has changed since this training began: train anew without "
                "--resume, or --export-best with the table as it was"
            )
        for variable, value in zip(self._variables(), checkpoint.variables, strict=True):
            variable.assign(value)
        self.progress = checkpoint.progress

    def _variables(self) -> list[Any]:
        model = self.model
        # Of the model also the counters of its random numbers.
        return [*model.variables, *model.metrics_variables, *model.optimizer.variables]


def _tensors(batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.constant(batch.sequences), tf.constant(batch.lengths), tf.constant(batch.targets)
