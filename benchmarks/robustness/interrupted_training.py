"""Interrupts trainings, as people and machines do, and looks at what is left.

`python -m benchmarks.robustness.interrupted_training killed|stopped|full` (some minutes each).
Each training is a tiny one, in a process of its own.

- killed: `kill -9` at random moments, `--resume` after each, until it has ended. The weights are
  those of a training that ran through, bit for bit.
- stopped: Ctrl-C at random moments. Status 130, no traceback; what `--export-best` exports is
  whole, and a kernel computes its probe.
- full: a limit on the size of files, as of a disk that is full, in the middle of a training. The
  checkpoint that was there stays, and `--resume` gives the same weights.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.paths import ROOT
from model.export.manifest import read_manifest

TASK = """
name = "wave"
description = "A wave with noise."
data = "{data}"
time = "time"
time_step_s = 3600
features = [{{name = "y", unit = "u"}}]
outputs = [{{name = "y_1", unit = "u", column = "y", horizon = 1, change = true}}]
"""
OPTIONS = (
    *("--layers", "gru:8", "lstm:8", "--window-steps", "48"),
    *("--batch-size", "16", "--checkpoint-minutes", "0.001"),
)
UPDATES, PATIENCE = 1300, 100
CHECKPOINT = Path("wave", ".training", "checkpoint.npz")


class Trainings:
    """Starts trainings of one task, each into a models' folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hours = np.arange(2000)
        noise = np.random.default_rng(0).normal(size=len(hours))
        table = pd.DataFrame(
            {
                "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, unit="h"),
                "y": 10 * np.sin(hours * np.pi / 12) + noise,
            }
        )
        table.to_csv(folder / "wave.csv", index=False)
        (folder / "wave.toml").write_text(TASK.format(data=folder / "wave.csv"))

    def start(
        self, models: str, *more: str, most_bytes: int | None = None
    ) -> subprocess.Popen[str]:
        """Starts one; `most_bytes` is the size of the largest file that it can write."""

        def limit() -> None:
            if most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        command = [sys.executable, "-m", "model.train", "--task", f"{self.folder}/wave.toml"]
        lengths = ("--updates", str(UPDATES), "--patience", str(PATIENCE))
        return subprocess.Popen(
            [*command, "--models-dir", f"{self.folder / models}", *OPTIONS, *lengths, *more],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )

    def finished(self, models: str, *more: str) -> tuple[dict[str, bytes], float]:
        """Runs one to its end; its weights, and the seconds it took."""
        started = time.monotonic()
        process = self.start(models, *more)
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(told)
        return self.weights(models), time.monotonic() - started

    def weights(self, models: str) -> dict[str, bytes]:
        """Of the newest version, which has to be whole."""
        folder = max((self.folder / models / "wave").glob("[0-9]*"))
        read_manifest(folder)
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights/")]
        return {name: reader.get_tensor(name).tobytes() for name in names}


def killed(trainings: Trainings, points: int, chance: random.Random) -> None:
    """See the head of the file."""
    whole, seconds = trainings.finished("whole")
    print(f"a training that runs through takes {seconds:.0f} s", flush=True)
    for point in range(points):
        process = trainings.start("killed", "--resume")
        try:
            process.wait(timeout=chance.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        told = process.communicate()[0].splitlines()
        last = next((line for line in reversed(told) if line.startswith("update")), "")
        print(f"{point + 1}: {process.returncode}, {last[:60] or told[-1:]}", flush=True)
    found, _ = trainings.finished("killed", "--resume")
    print("the same weights, bit for bit" if found == whole else "OTHER WEIGHTS")


def stopped(trainings: Trainings, points: int, chance: random.Random) -> None:
    """See the head of the file."""
    _, seconds = trainings.finished("whole")
    for point in range(points):
        models = f"stopped{point}"
        process = trainings.start(models)
        at = seconds * (point + chance.random()) / points
        try:
            process.wait(timeout=at)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, told = process.communicate()
        trace = "Traceback" in told or "Exception" in told
        exported = "nothing to export yet"
        if (trainings.folder / models / CHECKPOINT).exists():
            trainings.finished(models, "--export-best")
            exported = "exported, and whole"
        print(
            f"after {at:.1f} s: status {process.returncode}, {'A TRACEBACK, ' if trace else ''}"
            f"{exported}; told: {' / '.join(told.strip().splitlines()[:1])}",
            flush=True,
        )


def full(trainings: Trainings, points: int, chance: random.Random) -> None:
    """See the head of the file."""
    whole, _ = trainings.finished("whole")
    process = trainings.start("full")
    time.sleep(1.0)
    checkpoint = trainings.folder / "full" / CHECKPOINT
    while not checkpoint.exists():
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate()
    before = checkpoint.read_bytes()
    process = trainings.start("full", "--resume", most_bytes=len(before) // 2)
    out, told = process.communicate()
    notes = [line for line in out.splitlines() if line.startswith("note")]
    print(f"status {process.returncode}; {len(notes)} notes, the first: {notes[:1]}; end: {told}")
    print("the checkpoint is as it was" if checkpoint.read_bytes() == before else "ANOTHER ONE")
    found, _ = trainings.finished("full", "--resume")
    print("the same weights, bit for bit" if found == whole else "OTHER WEIGHTS")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness.interrupted_training")
    ways = {"killed": killed, "stopped": stopped, "full": full}
    parser.add_argument("way", choices=ways)
    parser.add_argument("--points", type=int, default=20, help="how often it is interrupted")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways[given.way](Trainings(Path(folder)), given.points, random.Random(given.seed))


if __name__ == "__main__":
    main()
