"""Layers on several devices: everything is where it belongs, and the numbers are the same.

The devices are parts of the CPU, which TensorFlow treats as it treats several GPUs.
"""

import re
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from app.kernels.saved_model_placement import assign
from model.network_config import LayerConfig, RNNConfig
from model.placement import devices
from model.placement.plan import plan
from tests.model import on_devices
from tests.model.children import pool
from tests.model.on_devices import NUM_INPUTS, STACK, Served, Trained
from tests.support.exported_models import OUTPUTS

COUNTS = (1, 2, 3, 4)
BATCHES = 50
# Rounding apart, a device changes nothing: where time is cut differs, and with it the order in
# which gradients are summed up. Weights are of the order of 0.1 to 1.
CLOSE = 1e-5
# What hands numbers over, and reads of variables, which are where the variable is: the number of
# batches so far, say, which every update asks for.
NOT_COMPUTED = ("Const", "ReadVariableOp", "_Send", "_Recv", "_HostSend", "_HostRecv")


def kind(op: str) -> str:
    """`MatMul` for what oneDNN and TensorFlow's optimizer make of it, such as `_MklFusedMatMul`."""
    return "MatMul" if op.endswith("MatMul") else op


def planned(num_devices: int) -> tuple[str, ...]:
    config = RNNConfig(
        layers=tuple(map(LayerConfig.parse, STACK)),
        num_inputs=NUM_INPUTS,
        num_outputs=len(OUTPUTS),
    )
    return plan(config, [f"CPU:{i}" for i in range(num_devices)]).devices


@pytest.fixture(scope="module")
def trained() -> dict[int, Trained]:
    with pool(2) as processes:
        futures = {n: processes.submit(on_devices.train, n, BATCHES) for n in COUNTS}
        return {n: future.result() for n, future in futures.items()}


@pytest.mark.parametrize("count", COUNTS)
def test_weights_and_their_slots_are_on_the_planned_device(
    trained: dict[int, Trained], count: int
) -> None:
    places = planned(count)
    assert len(set(places)) == count
    found = trained[count]
    for path, device in found.variables.items():
        layer = re.search(r"layer_(\d)", path)
        assert device == (places[int(layer[1])] if layer else places[-1]), path
    assert len(found.slots) == 1 + 3 * len(found.variables), "two moments and an average of each"
    for path, device in found.slots.items():
        if path == "iteration":
            continue
        (of,) = {
            d
            for p, d in found.variables.items()
            if path.startswith(p.replace("/", "_") + "_")
            and path.removeprefix(p.replace("/", "_") + "_") in ("momentum", "velocity", "average")
        }
        assert device == of, path


@pytest.mark.parametrize("count", COUNTS)
def test_operations_are_on_the_device_of_their_layer(
    trained: dict[int, Trained], count: int
) -> None:
    """Forward, backward and update, in the graph that TensorFlow executed."""
    places = planned(count)
    seen: dict[tuple[int, str], set[str]] = defaultdict(set)
    for name, op, device in trained[count].nodes:
        scope = re.search(r"layer_(\d)(?:_chunk_\d+(_gradient)?|.*(_update))/", name)
        if scope is None or op in NOT_COMPUTED:
            continue
        part = scope[2] or scope[3] or "_forward"
        assert device == places[int(scope[1])], f"{name} ({op})"
        seen[int(scope[1]), part].add(kind(op))
    for layer in range(len(STACK)):
        assert {"MatMul", "PartitionedCall"} <= seen[layer, "_forward"]
        assert {"MatMul", "PartitionedCall"} <= seen[layer, "_gradient"]
        assert "Sqrt" in seen[layer, "_update"]


@pytest.mark.parametrize("count", COUNTS[1:])
def test_training_on_several_devices_gives_the_numbers_of_one(
    trained: dict[int, Trained], count: int
) -> None:
    one, several = trained[1], trained[count]
    np.testing.assert_allclose(several.losses, one.losses, rtol=CLOSE)
    assert one.losses[-1] != pytest.approx(one.losses[0], rel=0.01), "it learns"
    for a, b in zip(several.weights, one.weights, strict=True):
        assert np.abs(a - b).max() <= CLOSE * np.abs(b).max()


def test_chunks_of_any_length_and_dropout_give_the_same_numbers() -> None:
    """Masks are drawn for the whole of time, so they do not depend on where it is cut."""
    keep = {"input_keep_prob": 0.9, "output_keep_prob": 0.7, "state_keep_prob": 0.8}
    with pool(2) as processes:
        whole, *cut = processes.map(
            _train_cut, [(1, 10, keep), (2, 1, keep), (2, 3, keep), (4, 10, keep)]
        )
    for found in cut:
        np.testing.assert_allclose(found.losses, whole.losses, rtol=CLOSE)


def _train_cut(given: tuple[int, int, dict[str, float]]) -> Trained:
    count, chunk_steps, keep = given
    return on_devices.train(count, 5, chunk_steps=chunk_steps, **keep)


def test_replicas_give_the_numbers_of_one(trained: dict[int, Trained]) -> None:
    """A batch of 12 rows, in two parts, each on its own two devices."""
    with pool(1) as processes:
        found = processes.submit(on_devices.train, 4, BATCHES, replicas=2).result()
    np.testing.assert_allclose(found.losses, trained[1].losses, rtol=CLOSE)
    assert set(found.variables.values()) == {"CPU:0", "CPU:1"}
    products = {device for name, op, device in found.nodes if kind(op) == "MatMul"}
    assert products == {"CPU:0", "CPU:1", "CPU:2", "CPU:3"}


def test_each_replica_makes_its_noise_where_it_begins() -> None:
    with pool(1) as processes:
        keep = {"output_keep_prob": 0.7}
        found = processes.submit(on_devices.train, 4, 1, replicas=2, **keep).result()
    noise = {device for name, op, device in found.nodes if op.startswith("StatelessRandomNormal")}
    assert noise == {"CPU:0", "CPU:2"}


def test_inference_is_the_same_on_any_number_of_devices_and_in_any_chunks() -> None:
    with pool(2) as processes:
        futures = [
            processes.submit(on_devices.unrolled, count, chunk_steps)
            for count, chunk_steps in ((1, 10), (1, None), (3, 4), (4, 1))
        ]
        one, *others = [future.result() for future in futures]
    for other in others:
        for a, b in zip(other, one, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def on_fewer(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Served]:
    """Models trained on 1 and 3 devices, served on 1, 2 and 3."""
    found = {}
    with pool(2) as processes:
        for made in (1, 3):
            folder: Path = processes.submit(
                on_devices.exported, tmp_path_factory.mktemp("models"), made
            ).result()
            futures = {n: processes.submit(on_devices.served, folder, n) for n in (1, 2, 3)}
            found |= {(made, n): future.result() for n, future in futures.items()}
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_model_of_three_devices_serves_on_what_there_is(
    on_fewer: dict[tuple[int, int], Served], count: int
) -> None:
    found, one = on_fewer[3, count], on_fewer[1, 1]
    np.testing.assert_allclose(found.outputs, one.outputs, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.state, one.state, rtol=1e-6, atol=1e-6)
    assert len(set(found.devices)) == count
    assert list(found.devices) == sorted(found.devices)
    if count == 3:
        assert found.devices == planned(3)


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_loaded_computes_where_its_variables_are(
    on_fewer: dict[tuple[int, int], Served], count: int
) -> None:
    found = on_fewer[3, count]
    seen = set()
    for name, op, device in found.nodes:
        scope = re.search(r"layer_(\d)_chunk_0/", name)
        if scope and op not in NOT_COMPUTED:
            assert device == found.devices[int(scope[1])], f"{name} ({op})"
            seen.add((int(scope[1]), kind(op)))
    assert {(layer, "MatMul") for layer in range(len(STACK))} <= seen


def test_a_model_of_one_device_stays_on_one(on_fewer: dict[tuple[int, int], Served]) -> None:
    assert set(on_fewer[1, 3].devices) == {"CPU:0"}


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [("max", "5", 3 << 20), ("1000000", "400000", 700_000), ("9000000", "1", 3 << 20)],
)
def test_free_memory_is_the_machines_or_the_containers(
    tmp_path: Path, limit: str, used: str, expected: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9999 kB\nMemAvailable:   3072 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert devices._free_memory(tmp_path / "meminfo", tmp_path) == expected
    assert devices._free_memory(tmp_path / "meminfo", tmp_path / "absent") == 3 << 20


def test_a_replica_without_a_row_changes_nothing() -> None:
    """The last batch of an epoch may have fewer rows than there are replicas."""
    with pool(1) as processes:
        one, two = processes.map(_losses_of_one_row, [1, 2])
    np.testing.assert_allclose(two, one, rtol=CLOSE)


def _losses_of_one_row(replicas: int) -> list[float]:
    return on_devices.train(2, 3, replicas=replicas, rows=1).losses


def test_a_model_wholly_on_another_device_is_served_there() -> None:
    with pool(1) as processes, tempfile.TemporaryDirectory() as name:
        folder = processes.submit(on_devices.exported, Path(name), 2, ("cpu:1",)).result()
        found = processes.submit(on_devices.served, folder, 2).result()
        one = processes.submit(on_devices.served, folder, 1).result()
    assert set(found.devices) == {"CPU:1"}
    assert set(one.devices) == {"CPU:0"}
    np.testing.assert_allclose(found.outputs, one.outputs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("trained", "here", "expected"),
    [
        (["CPU:0", "CPU:1"], ["CPU:0", "CPU:1"], ["CPU:0", "CPU:1"]),
        (["CPU:1"], ["CPU:0", "CPU:1"], ["CPU:1"]),
        (["GPU:0", "GPU:1", "GPU:2"], ["CPU:0", "GPU:0"], ["GPU:0", "GPU:0", "GPU:0"]),
        (["GPU:0", "GPU:1", "GPU:2"], ["CPU:0", "CPU:1"], ["CPU:0", "CPU:0", "CPU:1"]),
        (["GPU:0", "CPU:0"], ["CPU:0", "GPU:0", "GPU:1"], ["GPU:0", "CPU:0"]),
        (["CPU:0", "CPU:0"], ["CPU:0", "GPU:0"], ["GPU:0", "GPU:0"]),
        (["CPU:0", "CPU:1"], ["CPU:0", "GPU:0", "GPU:1"], ["GPU:0", "GPU:1"]),
        (["GPU:1"], ["CPU:0", "GPU:0", "GPU:1"], ["GPU:1"]),
    ],
)
def test_devices_that_are_there_are_kept_and_others_replaced(
    trained: list[str], here: list[str], expected: list[str]
) -> None:
    """A layer that is on the CPU beside others on a GPU was put there on purpose."""
    assigned = assign(trained, here)
    assert [assigned[device] for device in trained] == expected
