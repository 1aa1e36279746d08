"""TensorBoard's files: the losses and the learning rate by update."""

from pathlib import Path

import tensorflow as tf

# What TensorBoard's own package says of a curve; TensorFlow comes without it.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class EventLog:
    """Writes a point of each curve at a time.

    Args:
        folder: where TensorBoard looks; None to write nothing.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer = tf.summary.create_noop_writer()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, update: int, **curves: float) -> None:
        """Writes where each curve is after so many updates.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            with self._writer.as_default(step=update):
                for name, value in curves.items():
                    tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise OSError(str(error.message).partition("\n")[0]) from error
