"""Serves an exported model over HTTP. Never imports `model`."""

import os

# ONNX Runtime would send its maker what it is used for, and leave files in two folders.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Of Unroll: the newest entry of CHANGELOG.md and the package in client/ have the same.
__version__ = "0.1.0"
