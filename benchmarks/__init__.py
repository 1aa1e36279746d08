"""Measures Unroll beside what people would use instead.

Commands, each a room with a `__main__`: `serving` (servers under load), `training` (a batch beside
Keras, layers on two devices), `kernels` (the kernels alone), `gpu` (all of it on a GPU). They are
made of `sections` (one thing measured, and its part of the page), `servers` and `peers` (what is
measured), `models` (what they serve), `load` (what they are sent), `processes` and `report`.
"""

import os

# ONNX Runtime would send its maker what it is used for, and leave files in two folders.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
