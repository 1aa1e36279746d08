"""What an error of TensorFlow says, in one line with the device and the option that helps."""

import re

import tensorflow as tf

from model.placement.gpus import full_name

# What stands before the cause, where a graph failed: a heading, and where the node was made.
NO_CAUSE = ("Graph execution error", "Detected at node", "<stack traces", " ", "\t")


def told(error: tf.errors.OpError) -> str:
    """What failed, where, and what helps."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return (
            f"{_device_in(error)} has no memory left: lower --batch-size or --window-steps, "
            f"or give more devices ({_cause(error)})"
        )
    return f"{_device_in(error)} failed: {_cause(error)}"


def _cause(error: tf.errors.OpError) -> str:
    """What failed, in one line."""
    lines = [line for line in str(error.message).splitlines() if line]
    return next((line for line in lines if not line.startswith(NO_CAUSE)), " ".join(lines[:1]))


def _device_in(error: tf.errors.OpError) -> str:
    """The device that an error of TensorFlow names, such as `GPU:0`."""
    found = re.search(r"(?:device:|/)((?:GPU|CPU):\d+)", str(error.message))
    return full_name(found[1]) if found else "a device"
