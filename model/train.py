"""`python -m model.train`: the command. What it does is in `run.py`, what is asked in `command.py`.

TensorFlow is imported once the options are read: help and mistakes take no seconds, and Ctrl-C
while it is imported ends as it does later.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # as shells have it: 128 and SIGINT


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Of SIGINT while modules are imported, where a `KeyboardInterrupt` may be lost."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _end_at_once)

# TensorFlow reads these when it is imported: its C++ notes would bury what training tells, and
# oneDNN has the faster products also on the processors on which it is off by itself.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from model.data.draft import task_of
from model.export.versions import existing_versions
from model.quiet import quiet
from model.train_arguments import Command, parse_arguments
from model.train_config import TrainConfig


def main() -> int:
    """The command; returns the exit status."""
    command = parse_arguments()
    try:
        if command.only_if_missing and _is_there(command.config):
            return 0
        if command.config.data is not None:
            task_of(command.config)  # what is wrong with a table is told at once
        return _carry_out(command)
    except (OSError, ValueError) as error:
        return _failed(str(error))


def _is_there(config: TrainConfig) -> bool:
    """Whether a version is exported already; tells it."""
    home = config.models_dir / (config.name or task_of(config).task.name)
    versions = existing_versions(home)
    if versions:
        print(f"{home} has version {versions[-1]}: nothing to train")
    return bool(versions)


def _carry_out(command: Command) -> int:
    with quiet():
        import tensorflow as tf

        from model import backtest, preparation, run, tensorflow_errors
        from model.training.interruption import Interrupted

        tf.config.list_physical_devices()  # what there is to tell of them, it tells at first
    # Of its warnings none is for who trains: that a function is traced again, for each model.
    tf.get_logger().setLevel("ERROR")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if command.inspect or command.write_task:
            preparation.understand(command)
        elif command.explain_placement:
            preparation.explain_placement(command.config)
        elif command.backtest:
            backtest.backtest(command)
        else:
            run.run(command)
    except tf.errors.OpError as error:
        return _failed(tensorflow_errors.told(error))
    except Interrupted as interrupted:
        print(f"\n{interrupted}", file=sys.stderr)
        return interrupted.status
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _failed(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it has ended: what it said stands
    sys.exit(status)
