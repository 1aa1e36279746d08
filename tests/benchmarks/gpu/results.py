"""Results that nobody measured on a GPU, for tests of the page."""

from typing import Any

from tests.benchmarks.serving.results import origin

Results = dict[str, Any]
TITLE = "3 x LSTM 100, 128 x 72"


def results() -> Results:
    return {
        "command": "python -m benchmarks.gpu --quick",
        "commit": "abcdef",
        "minutes": 1.9,
        "machine": origin()["machine"],
        "card": card(),
        "sections": {
            name: {"result": result, "error": None, "seconds": 20.0}
            for name, result in (
                ("training", training()),
                ("chunks", chunks()),
                ("service", service()),
                ("devices", devices()),
            )
        },
    }


def card() -> Results:
    return {
        "gpus": [{"device_name": "A Card"}],
        "why": None,
        "card": {"name": "A Card 80GB", "driver_version": "580.1"},
        "tensorflow": "2.21",
        "built_for": {"cuda_version": "12.5.1"},
        "loaded": {"cudnn": 91002},
    }


def training() -> Results:
    def cell(label: str, group: str, seconds: list[float], **more: Any) -> Results:
        return {"label": label, "group": group, "title": TITLE, "seconds": seconds, **more}

    return {
        "sides": {"keras": {"keras": "3.15"}, "torch": {"error": "No module named 'torch'"}},
        "cells": [
            cell("Unroll, cuDNN", "plain", [2e-3, 4e-3], cudnn={"forward": 3, "backward": 3}),
            cell("Unroll, loops", "plain", [8e-3, 16e-3], cudnn={"forward": 0, "backward": 0}),
            cell("Keras", "plain", [3e-3, 6e-3], cudnn={"forward": 3, "backward": 3}),
            cell("PyTorch", "plain", [], error="No module named 'torch'"),
            cell("Unroll, cuDNN", "TF32", [1e-3, 1e-3]),
            cell("PyTorch", "TF32", [], error="No module | named 'torch'"),
        ],
    }


def chunks() -> Results:
    def cell(kernel: str, rows: int, seconds: list[float], **more: Any) -> Results:
        place = {"units": 512, "rows": rows, "steps": 32}
        return {**place, "kernel": kernel, "seconds": seconds, **more}

    copies = {"to_card": 0.05, "to_host": 0.06}
    split = {"to_card": 0.01, "kernels": 0.8, "to_host": 0.02}
    slow = "TimeoutError: more than 2 s a call"
    return {
        "cells": [
            cell("cuDNN", 1, [1e-3, 1e-3], copies_ms=copies, split_ms=split, traced_ms=1.25),
            cell("ONNX Runtime", 1, [2e-3, 4e-3]),
            cell("cuDNN", 512, [5e-3], copies_ms=copies, traced_ms=5.5),
            cell("ONNX Runtime", 512, [], error=slow),
        ]
    }


def service_cell(server: str, per_second: float, gpu_busy: float | None) -> Results:
    return {
        "server": server,
        "workload": "mixed",
        "clients": 256,
        "per_second": per_second,
        "p50_ms": 40.0,
        "p99_ms": 90.0,
        "cores": 0.8,
        "gpu_busy": gpu_busy,
        "errors": 0,
    }


def service() -> Results:
    return {
        "units": 512,
        "servers": {
            "gpu_cudnn_1": {"about": "UNROLL_WORKERS=1", "workers": 1, "start_s": 12.0},
            "gpu_cudnn_4": {"about": "UNROLL_WORKERS=4", "error": "not ready: see a log"},
            "cpu_onnxruntime": {"about": "a worker a core: 16", "workers": 16, "start_s": 9.0},
        },
        "cells": [
            service_cell("gpu_cudnn_1", 3000.0, 0.5),
            service_cell("cpu_onnxruntime", 500.0, None),
            service_cell("gpu_cudnn_1", 2000.0, 0.7),
            service_cell("cpu_onnxruntime", 500.0, None),
        ],
    }


def devices() -> Results:
    def traced(first: float, second: float, both: float) -> Results:
        busy = {"GPU:0": first, "GPU:1": second}
        return {
            "source": "streams of the card",
            "batch_ms": 9.0,
            "busy_ms": busy,
            "both_ms": both,
        }

    return {
        "case": "4 x LSTM 512, 64 x 128",
        "devices": ["GPU:0", "GPU:0", "GPU:1", "GPU:1"],
        "seconds": {"pipelined": [5e-3], "layer after layer": [9e-3], "one device": [8e-3]},
        "traces": {"pipelined": traced(4.0, 3.0, 1.5), "layer after layer": traced(4, 3, 0)},
    }
