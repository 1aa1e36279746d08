"""The GPU: what it is, with which libraries, and how busy it is.

`python -m benchmarks.gpu.gpu_info` prints as JSON what TensorFlow sees of it, in a process of its
own.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any

from benchmarks.processes.failure_line import one_line

QUERY = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")
# What TensorFlow loads, and the function that tells the version.
LIBRARIES = {
    "cudart": ("libcudart.so.12", "cudaRuntimeGetVersion"),
    "cublas": ("libcublas.so.12", "cublasGetCudartVersion"),
    "cudnn": ("libcudnn.so.9", "cudnnGetVersion"),
}
BUSY_INTERVAL_MS = 200
TIMEOUT_S = 45.0


class NoGpu(Exception):
    """There is none that TensorFlow can use; the text is one line."""


def look() -> dict[str, Any]:
    """The card and its libraries.

    Raises:
        NoGpu: there is none that TensorFlow can use.
    """
    command = [sys.executable, "-m", "benchmarks.gpu.gpu_info"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NoGpu(f"TensorFlow did not say within {TIMEOUT_S:.0f} s which there are") from error
    if done.returncode:
        raise NoGpu((done.stderr.strip() or "TensorFlow ended").splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not found["gpus"]:
        raise NoGpu(found["why"] or f"TensorFlow sees none; nvidia-smi: {found['card']}")
    return found


def ask_card() -> dict[str, str] | str:
    """What `nvidia-smi` says of the first card; in one line why it does not."""
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return one_line(error)
    if done.returncode:
        return (done.stdout + done.stderr).strip().splitlines()[-1]
    values = (part.strip() for part in done.stdout.splitlines()[0].split(","))
    return dict(zip(QUERY, values, strict=True))


class Busy:
    """Watches how busy the card is, while it is open.

    `nvidia-smi` tells the part of the time in which at least one kernel ran.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._process: subprocess.Popen[str] | None = None
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        with suppress(OSError):
            self._process = subprocess.Popen(
                [*query, "-lms", str(BUSY_INTERVAL_MS)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            self._thread = threading.Thread(target=self._read, args=(self._process.stdout,))
            self._thread.start()

    def last(self, seconds: float) -> float | None:
        """The mean of the last seconds, 0 to 1; None where the card does not say."""
        begin = time.monotonic() - seconds
        found = [busy for moment, busy in list(self._samples) if moment >= begin]
        return sum(found) / len(found) / 100 if found else None

    def close(self) -> None:
        """Watches no longer."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._thread.join()

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                # Some cards answer "[N/A]".
                with suppress(ValueError):
                    self._samples.append((time.monotonic(), float(line)))


def _version(library: str, function: str) -> int | None:
    """As the library that is loaded has it: cuDNN 9.10.2 is 91002, CUDA 12.9 is 12090."""
    try:
        call = getattr(ctypes.CDLL(library), function)
    except (OSError, AttributeError):
        return None
    if function == "cudaRuntimeGetVersion":
        number = ctypes.c_int()
        call(ctypes.byref(number))
        return number.value
    call.restype = ctypes.c_size_t
    return int(call())


def main() -> None:
    """Prints what TensorFlow sees."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from model.placement.gpus import why_no_gpu

    gpus = tf.config.list_physical_devices("GPU")
    build = tf.sysconfig.get_build_info()
    found = {
        "why": why_no_gpu(),
        "gpus": [tf.config.experimental.get_device_details(gpu) for gpu in gpus],
        "card": ask_card(),
        "tensorflow": tf.__version__,
        "built_for": {name: build.get(name) for name in ("cuda_version", "cudnn_version")},
        "loaded": {name: _version(*where) for name, where in LIBRARIES.items()} if gpus else {},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
