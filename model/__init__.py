"""Trains, evaluates and exports deep recurrent networks. Never imports `app`."""

import os

# ONNX Runtime would send its maker what it is used for, and leave files in two folders.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
