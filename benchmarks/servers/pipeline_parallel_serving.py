"""Serving a model whose layers are on two devices: with a chunk in flight for each, and with one.

`python -m benchmarks.servers.pipeline_parallel_serving` makes the model, in a process of its own:
it splits the CPU.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from benchmarks.load.workloads import make
from benchmarks.model_files import NUM_FEATURES, BenchModel
from benchmarks.paths import BUILD
from benchmarks.servers.interleaving import measure
from benchmarks.servers.kinds import unroll
from benchmarks.servers.server import serve

UNITS, NUM_LAYERS = 256, 4
DEVICES = {"UNROLL_LOGICAL_DEVICES": "2"}
KINDS = (
    unroll("a chunk for each device", "two lanes, the default", DEVICES),
    unroll("one chunk in flight", "one lane", {**DEVICES, "UNROLL_LANES": "1"}),
)
MODEL = BenchModel(UNITS, BUILD / "placed-1")


def measure_serving(clients: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """A cell for each of `KINDS`, with the workload `mixed`."""
    if not MODEL.folder.is_dir():
        subprocess.run(
            [sys.executable, "-m", "benchmarks.servers.pipeline_parallel_serving"],
            check=True,
            stdout=sys.stderr,
        )
    with ExitStack() as stack:
        servers = [stack.enter_context(serve(kind, MODEL)) for kind in KINDS]
        for server in servers:
            server.process.pause()
        cells = measure(servers, make("mixed"), clients, rounds, seconds)
    return [cell.document() for cell in cells]


def main() -> int:
    """Trains nothing: random weights on two devices, exported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks.models.network import plain_network
    from model.export.saved_model import export_model
    from model.network_config import LayerConfig, RNNConfig
    from model.placement.devices import find_devices, split_cpu
    from model.placement.plan import plan_replicas

    split_cpu(2)
    layers = (LayerConfig(cell="lstm", units=UNITS),) * NUM_LAYERS
    config = RNNConfig(layers=layers, num_inputs=NUM_FEATURES, num_outputs=1)
    model = plain_network(config, plan_replicas(config, find_devices(("auto",)), 1))
    export_model(model, MODEL.models_dir, MODEL.name, {}, lambda folder, manifest: None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
